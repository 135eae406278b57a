"""The SDK's command line, with the defaults that this project needs and refusals where it must.

Imported by the two `__main__` modules only: the SDK parses the process's own command line when it
is imported.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence

from kserve.model_server import parser as sdk_parser

from nimbusguard.contract.errors import NimbusGuardError
from serving.logs import configure_logging
from serving.server import check_workers
from serving.settings import InvalidSetting, ServerSettings, server_settings

logger = logging.getLogger(__name__)

MODEL_NAME = "nimbusguard-dqn"


def make_parser(program: str) -> argparse.ArgumentParser:
    """The SDK's flags; `--model_name` defaults to the name in every path of the documentation."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", parents=[sdk_parser])
    parser.set_defaults(model_name=MODEL_NAME)
    return parser


def parse_flags(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, and refuse what could only be ignored.

    Flags that nobody knows are reported and left alone, as in the SDK: the controller may inject
    new ones.

    Raises:
        InvalidSetting: A flag asks for something that these servers do not do.
    """
    flags, unknown = parser.parse_known_args(argv)
    if unknown:
        logger.warning("unknown flags ignored", extra={"flags": unknown})
    check_workers(flags.workers)
    for flag in ("ssl_certfile", "ssl_keyfile", "predictor_use_ssl"):
        if getattr(flags, flag):
            message = f"--{flag}: expected none: TLS is left to the mesh or the ingress"
            raise InvalidSetting(message)
    return flags


def run_main(
    component: str,
    environ: dict[str, str],
    serve: Callable[[ServerSettings], None],
) -> int:
    """Read the shared settings, set up logging, serve.

    Returns:
        The exit status: 0 after a clean stop, 1 when the server could not start or go on; the
        reason is the last line of the log.
    """
    configure_logging(component, "info")
    try:
        settings = server_settings(environ)
        configure_logging(component, settings.log_level)
        serve(settings)
    except (NimbusGuardError, OSError) as error:
        logger.critical("cannot serve: %s", error)
        return 1
    return 0
