"""Log lines: one JSON object each, whatever is in them."""

from __future__ import annotations

import json
import logging
import sys

from serving.logs import JsonFormatter


def line_of(record: logging.LogRecord) -> dict[str, object]:
    text = JsonFormatter("predictor").format(record)
    assert "\n" not in text
    document: dict[str, object] = json.loads(text)
    return document


def record_of(message: str, *args: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("x").makeRecord(
        "x", logging.INFO, "file.py", 1, message, args, None, extra=extra
    )


def test_a_line_has_time_level_component_logger_and_message() -> None:
    """The time is UTC and says so."""
    record = record_of("hello %s", "world")
    record.created, record.msecs = 0.0, 7.0

    assert line_of(record) == {
        "time": "1970-01-01T00:00:00.007Z",
        "level": "info",
        "component": "predictor",
        "logger": "x",
        "message": "hello world",
    }


def test_extra_fields_stand_beside_them() -> None:
    """Values that JSON does not know are written as text."""
    line = line_of(record_of("x", request_id="7", status=200, path=sys))

    assert (line["request_id"], line["status"]) == ("7", 200)
    assert str(line["path"]).startswith("<module 'sys'")


def test_a_line_break_in_a_message_is_no_second_line() -> None:
    """Nobody can forge a line by what is logged."""
    assert line_of(record_of('a\n{"level": "error"}'))["message"] == 'a\n{"level": "error"}'


def test_a_traceback_is_one_field() -> None:
    """It belongs to its line."""
    record = record_of("x")
    try:
        raise ValueError("boom")  # noqa: TRY301 - the traceback is what is tested
    except ValueError:
        record.exc_info = sys.exc_info()

    assert "ValueError: boom" in str(line_of(record)["traceback"])
