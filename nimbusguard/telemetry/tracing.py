"""A tracer out of settings; the only place that decides whether OpenTelemetry is imported."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.telemetry.settings import ENDPOINT, TracingSettings

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
    if importlib.util.find_spec("opentelemetry") is None:
        message = (
            f"{ENDPOINT}: expected the extra `tracing` beside it, which is not installed; "
            "install nimbusguard[tracing], or leave the setting empty"
        )
        raise InvalidRequest(message)
    from nimbusguard.telemetry.otel import OtelTracer

    return OtelTracer(settings.endpoint, settings.ratio, component)
