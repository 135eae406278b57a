"""The servers' log lines."""

from __future__ import annotations

import logging
from typing import Final

from nimbusguard.telemetry.logs import JsonFormatter, configure

__all__ = ["JsonFormatter", "configure_logging"]

_LIBRARIES: Final = ("kserve", "kserve.trace", "uvicorn", "uvicorn.access", "httpx", "httpcore")


def configure_logging(component: str, level: str) -> None:
    """Send every logger of the process through one JSON handler.

    The SDK's loggers keep quiet below warning: it writes four lines for each request otherwise.
    """
    configure(component, level, dict.fromkeys(_LIBRARIES, logging.WARNING))
    logging.captureWarnings(capture=True)
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        # A handler of any kind keeps the SDK from configuring its own.
        logger.handlers = [logging.NullHandler()]
        logger.propagate = True
