"""Log lines as JSON on standard error, one object a line; docs/metrics.md lists the fields."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record holds; the rest is `extra`."""
_USER_INFO: Final = re.compile(r"(?<=://)[^/\s\"\\@]+(?=@)")
"""Name and password of a URL."""
_AUTHORIZATION: Final = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_HIDDEN: Final = "***"


class JsonFormatter(logging.Formatter):
    """Time in UTC, level, component, logger, message, and whatever came in `extra`."""

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
        return redact(orjson.dumps(line, default=str).decode())


def redact(text: str) -> str:
    """The text without credentials, as they stand in URLs and in `Authorization` headers."""
    if "@" in text:
        text = _USER_INFO.sub(_HIDDEN, text)
    return _AUTHORIZATION.sub(rf"\1 {_HIDDEN}", text)


def configure(component: str, level: str, quiet: Mapping[str, int]) -> None:
    """Send every logger of the process through one JSON handler on standard error.

    Args:
        component: Who speaks.
        level: The lowest level that is written, in any case.
        quiet: Levels of loggers that would say too much otherwise.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(component))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, lowest in quiet.items():
        logging.getLogger(name).setLevel(lowest)
