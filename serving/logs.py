"""Log lines as JSON on standard error, one object a line."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import orjson

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time in UTC, level, logger, message, and whatever came in `extra`."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "component": self._component,
            "logger": record.name,
            "message": record.getMessage(),
        }
        # Names with an underscore are other libraries' own notes, such as Ray's.
        extra = vars(record).items()
        line.update({k: v for k, v in extra if k not in _OWN and not k.startswith("_")})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logging(component: str, level: str) -> None:
    """Send every logger of the process through one JSON handler.

    The SDK's loggers keep quiet below warning: it writes four lines for each request otherwise.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(component))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.access", "httpx", "httpcore"):
        logger = logging.getLogger(name)
        # A handler of any kind keeps the SDK from configuring its own.
        logger.handlers = [logging.NullHandler()]
        logger.propagate = True
        logger.setLevel(logging.WARNING)
