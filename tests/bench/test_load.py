"""What is written for wrk and read from it."""

from pathlib import Path

import pytest

from bench.load import LoadFailedError, parse_result, read_requests, write_requests

RESULT = (
    '{"requests":1000,"duration_us":2000000,"p50_us":1500,"p99_us":9000,"max_us":12000,'
    '"connect":1,"read":2,"write":3,"status":4,"timeout":5}'
)
OUTPUT = f"Running 2s test\n  1 threads and 64 connections\nRequests/sec: 500\nRESULT {RESULT}\n"


def test_the_result_line_becomes_a_load() -> None:
    """Microseconds become milliseconds, and every kind of error counts."""
    load = parse_result(OUTPUT, generator_cores=0.4)

    assert (load.requests, load.seconds) == (1000, 2.0)
    assert (load.p50_ms, load.p99_ms, load.max_ms) == (1.5, 9.0, 12.0)
    assert load.errors == 15
    assert load.generator_cores == 0.4


def test_an_error_is_no_answer() -> None:
    """Answers per second count good answers only: a server that refuses quickly is not fast."""
    assert parse_result(OUTPUT, generator_cores=0.0).rate == pytest.approx((1000 - 15) / 2)


def test_output_without_a_result_is_refused() -> None:
    """A crash of the generator must not read as a server with no answers."""
    with pytest.raises(LoadFailedError, match="RESULT"):
        parse_result("unable to connect to 127.0.0.1", generator_cores=0.0)


def test_requests_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    """Binary content, empty lines and digits inside a request do not end it."""
    requests = [b"POST / HTTP/1.1\r\n\r\n\x00\xff0000000012", b"x", b"\n\n0000000003abc"]

    write_requests(tmp_path / "requests", requests)

    assert read_requests(tmp_path / "requests") == requests
