"""The locust side: a user that asks for decisions, the shape of a scenario, its verdict.

    locust -f loadtest/locustfile.py --headless --host http://127.0.0.1:8080 --scenario steady

`python -m loadtest` does this against a server of its own. Requests are named by the model version
that answered, so that a canary's share, failures and latency stand in rows of their own.
"""

from __future__ import annotations

import json
import logging
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from typing import Any

from locust import FastHttpUser, LoadTestShape, constant_pacing, events, task

from loadtest.scenarios import SCENARIOS, Result, Scenario, missed

logger = logging.getLogger(__name__)

PREDICT = "/v1/models/nimbusguard-dqn:predict"
INFER = "/v2/models/nimbusguard-dqn/infer"
SPAWN_RATE = 100.0
"""Users that start in a second; a rush comes at once."""


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Our options beside locust's own; workers are told them by the master."""
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="steady")
    parser.add_argument("--seconds", type=float, default=0.0, help="stretch or shorten to this")
    parser.add_argument("--max-failed-ratio", type=float, default=-1.0)
    parser.add_argument("--max-p99-ms", type=float, default=-1.0)
    parser.add_argument("--min-rate", type=float, default=-1.0)
    parser.add_argument("--payloads", default="tests/data", help="folder with v1/ and v2/")


def scenario_of(options: Any) -> Scenario:
    """The scenario that was asked for, at the length that was asked for."""
    scenario = SCENARIOS[options.scenario]
    return scenario.lasting(options.seconds) if options.seconds > 0 else scenario


class Operator(FastHttpUser):
    """Asks for decisions as operators do: mostly V1 by name, at times V1 arrays and V2."""

    connection_timeout = 5.0
    network_timeout = 10.0

    def on_start(self) -> None:
        """Read the payloads once; they are those that the servers' own tests use."""
        options = self.environment.parsed_options
        folder = Path(options.payloads)
        self._named = (folder / "v1" / "named.json").read_bytes()
        self._array = (folder / "v1" / "array.json").read_bytes()
        self._tensor = (folder / "v2" / "raw-metrics.json").read_bytes()
        pace_s = scenario_of(options).pace_s
        self._pacing = constant_pacing(pace_s) if pace_s else None

    def wait_time(self) -> float:
        """Until the next request of this user is due."""
        return float(self._pacing(self)) if self._pacing else 0.0

    @task(8)
    def named_features(self) -> None:
        """V1, one workload by names."""
        self._ask(PREDICT, self._named)

    @task(1)
    def ordered_features(self) -> None:
        """V1, one workload by order."""
        self._ask(PREDICT, self._array)

    @task(1)
    def tensor(self) -> None:
        """V2, one row."""
        self._ask(INFER, self._tensor)

    def _ask(self, path: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        with self.client.post(path, data=body, headers=headers, catch_response=True) as answer:
            if answer.status_code != 200:
                said = answer.text or repr(answer.error)
                answer.failure(f"{answer.status_code}: {said[:120]}")
                return
            version = _version(answer.text or "")
            if version is None:
                answer.failure("no decision in the answer")
                return
            answer.request_meta["name"] = f"{path} version {version}"
            answer.success()


def _version(text: str) -> str | None:
    """The model version that decided."""
    try:
        document = json.loads(text)
        if "predictions" in document:
            return str(document["predictions"][0]["model_version"])
        return str(document["model_version"])
    except (ValueError, KeyError, IndexError, TypeError):
        return None


class Shape(LoadTestShape):
    """Users over time, as the scenario says."""

    def tick(self) -> tuple[int, float] | None:
        """Users and spawn rate now; None ends the run."""
        scenario = scenario_of(self.runner.environment.parsed_options)
        users = scenario.users_at(self.get_run_time())
        return None if users is None else (users, SPAWN_RATE)


@events.quitting.add_listener
def judge(environment: Any, **_: Any) -> None:
    """Status 1 and every missed threshold with its numbers; a worker leaves it to the master."""
    if environment.runner is None or type(environment.runner).__name__ == "WorkerRunner":
        return
    options, total = environment.parsed_options, environment.stats.total
    thresholds = scenario_of(options).thresholds
    given = {
        name: value
        for name in ("max_failed_ratio", "max_p99_ms", "min_rate")
        if (value := getattr(options, name)) >= 0
    }
    result = Result(
        requests=total.num_requests,
        failed=total.num_failures,
        p99_ms=float(total.get_response_time_percentile(0.99) or 0.0),
        seconds=max(1e-9, total.last_request_timestamp - environment.stats.start_time),
    )
    for text in (found := missed(result, replace(thresholds, **given))):
        logger.error("missed: %s", text)
    if not found:
        logger.info("%s: every threshold held", options.scenario)
    environment.process_exit_code = 1 if found else 0
