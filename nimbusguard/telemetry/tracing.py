"""A tracer out of settings; the only place that decides whether OpenTelemetry is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from nimbusguard import __version__
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.telemetry.settings import ENDPOINT, TracingSettings, tracing_settings

if TYPE_CHECKING:
    from nimbusguard.telemetry.spans import Tracer


def open_tracer(settings: TracingSettings, component: str) -> Tracer | None:
    """The tracer that the settings ask for, or None.

    Args:
        settings: Where traces go.
        component: `operator`, `transformer` or `predictor`; the service's name is made of it.

    Raises:
        InvalidRequest: Traces are asked for and the extra that records them is not installed.
    """
    if settings.endpoint is None:
        return None
    try:
        from nimbusguard.telemetry.otel import OtelTracer
        from nimbusguard.telemetry.otlp import Exporter
    except ModuleNotFoundError as exc:
        message = (
            f"{ENDPOINT}: expected the extra `tracing` beside it, found no module {exc.name}; "
            "install nimbusguard[tracing], or leave the setting empty"
        )
        raise InvalidRequest(message) from exc

    resource = {"service.name": f"nimbusguard-{component}", "service.version": __version__}
    exporter = Exporter(settings.endpoint, resource)
    return OtelTracer(exporter, settings.ratio, np.random.default_rng())


@contextmanager
def tracing(environ: Mapping[str, str], component: str) -> Iterator[Tracer | None]:
    """The tracer of a process, or None; what it holds is sent when the block ends.

    Raises:
        InvalidRequest: A setting breaks its rule, or the extra is missing.
    """
    tracer = open_tracer(tracing_settings(environ), component)
    try:
        yield tracer
    finally:
        if tracer is not None:
            tracer.close()
