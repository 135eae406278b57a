"""Real parts for a canary drill: transformers, predictors with faulty hops, Prometheus, callers.

Every hop to a predictor goes through a proxy that takes `HOP_S`, in both arms alike. Without it an
answer takes about a millisecond, of which a busy machine makes five in one process and not in the
other: versions that are equal would then differ by more than the judge allows. With it, what the
machine adds is small beside what is measured, and three times slower is three times slower.
"""

from __future__ import annotations

import json
import math
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import numpy as np
import orjson
import pytest
import yaml

from nimbusguard.cli import main
from nimbusguard.contract.features import FEATURES
from tests.images.container import answers, free_port
from tests.isvc.load import Load, run_together
from tests.live.processes import start, wait_until

NAMESPACE = "nimbusguard-serving"
REQUESTS, SHARE = 3000, 0.25
HOP_S = 0.02
CALM_S = 2 * HOP_S
"""The stable version's p50, of which the hop is the most: a transformer has two hops under way, so
at the fastest rate a request waits a third of one for its turn (32 ms in all). Above it the machine
has no time for four servers and measures itself: equal versions were then seen at 75 and 164 ms."""
ATTEMPTS = 8
SLOWER = 1.5
"""How much more time the next attempt takes: a busy neighbour leaves less of the machine."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A transformer and the predictor behind it.

    Attributes:
        transformer: Port of the transformer.
        predictor: Port of the predictor itself, not of the proxy before it.
    """

    transformer: int
    predictor: int

    @property
    def targets(self) -> list[str]:
        """What Prometheus scrapes."""
        return [f"127.0.0.1:{port}" for port in (self.transformer, self.predictor)]


def slow_hop(stack: ExitStack, predictor: int, hop_s: float, error_share: float = 0.0) -> int:
    """A proxy before a predictor that takes so long, and fails this share; gives back its port."""
    command = ["tests/canary/faults.py", str(predictor), str(hop_s), str(error_share)]
    proxy = start([sys.executable, *command])
    stack.callback(proxy.end)
    return int(proxy.first_line())


class Drill:
    """Starts the parts; everything ends with the stack."""

    def __init__(self, stack: ExitStack, folder: Path, store: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._store = store

    def pair(self, version: str, *, hop_s: float = HOP_S, error_share: float = 0.0) -> Pair:
        """A version behind a transformer of its own, ready to decide."""
        predictor = self._server(["-m", "predictor", f"--model_dir={self.directory(version)}"])
        transformer = self._transformer(predictor, hop_s, error_share)
        self._wait_ready(transformer)
        return Pair(transformer, predictor)

    def foreign_pair(self, version: str) -> Pair:
        """A version with another feature table, in the release of the predictor that serves it."""
        predictor = self._server(["tests/canary/foreign.py", str(self.directory(version))])
        return Pair(self._transformer(predictor, HOP_S, 0.0), predictor)

    def prometheus(self, *pairs: Pair) -> str:
        """One that scrapes all of them every second; gives back its address."""
        targets = [target for pair in pairs for target in pair.targets]
        job = {
            "job_name": "serving",
            "scrape_interval": "1s",
            "static_configs": [{"targets": targets, "labels": {"namespace": NAMESPACE}}],
        }
        path = self._folder / "prometheus.yaml"
        path.write_text(yaml.safe_dump({"scrape_configs": [job]}))
        address = f"127.0.0.1:{free_port()}"
        process = start(
            [
                "prometheus",
                f"--config.file={path}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            log=self._folder / "prometheus.log",
        )
        self._stack.callback(process.end)
        wait_until("Prometheus", lambda: answers(f"http://{address}/-/ready"), 60)
        wait_until("every target scraped", lambda: _up(f"http://{address}") == len(targets), 60)
        return f"http://{address}"

    def directory(self, version: str) -> Path:
        """Where a version lies."""
        return self._store / "nimbusguard-dqn" / version

    def _transformer(self, predictor: int, hop_s: float, error_share: float) -> int:
        hop = slow_hop(self._stack, predictor, hop_s, error_share)
        flags = [f"--predictor_host=127.0.0.1:{hop}", "--predictor_protocol=v2"]
        return self._server(["-m", "transformer", *flags], ready=False)

    def _server(self, command: list[str], *, ready: bool = True) -> int:
        port = free_port()
        process = start(
            [sys.executable, *command, f"--http_port={port}", "--enable_grpc=false"],
            log=self._folder / f"server-{port}.log",
        )
        self._stack.callback(process.end)
        if ready:
            self._wait_ready(port)
        else:
            live = f"http://127.0.0.1:{port}/v2/health/live"
            wait_until("a live transformer", lambda: answers(live), 120)
        return port

    @staticmethod
    def _wait_ready(port: int) -> None:
        address = f"http://127.0.0.1:{port}/v1/models/nimbusguard-dqn"
        wait_until("a ready model", lambda: answers(address), 120)


def states(count: int) -> list[list[float]]:
    """Raw feature vectors from all over the table's range, the same ones every time."""
    rng = np.random.default_rng(7)
    lows = np.array([feature.minimum for feature in FEATURES])
    highs = np.array([feature.maximum for feature in FEATURES])
    rows: list[list[float]] = rng.uniform(lows, highs, (count, len(FEATURES))).tolist()
    return rows


async def ask(stable: Pair, canary: Pair, seconds: float) -> tuple[Load, Load]:
    """3,000 requests spread over a time, a quarter of them to the canary.

    Returns:
        What the callers of each saw.
    """
    bodies = tuple(orjson.dumps({"instances": [row]}) for row in states(500))
    loads = tuple(
        Load(
            address=("127.0.0.1", pair.transformer),
            host="drill",
            path="/v1/models/nimbusguard-dqn:predict",
            bodies=bodies,
            rate=share * REQUESTS / seconds,
            connections=25,
        )
        for pair, share in ((stable, 1 - SHARE), (canary, SHARE))
    )
    await run_together(loads, seconds)
    return loads[0], loads[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What `nimbusguard canary judge` said.

    Attributes:
        status: Its exit status: 0 promote, 3 hold, 4 roll back, 5 refuse.
        text: Its verdict and reasons, for a failure's message.
        checks: Names of the checks that decided.
        counted: Requests that the judgement is about, as far as Prometheus can tell.
    """

    status: int
    text: str
    checks: frozenset[str]
    counted: int


class Bench:
    """Callers, Prometheus and the judge around two pairs."""

    def __init__(
        self, drill: Drill, stable: Pair, canary: Pair, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._pairs = stable, canary
        self._prometheus = drill.prometheus(stable, canary)
        self._capsys = capsys
        self._asked = 0

    async def run(self, version: str, seconds: float) -> tuple[Outcome, Load, Load]:
        """Ask 3,000 times, wait until Prometheus knows of it, judge what came since.

        Whether it counts is decided by the stable arm alone, before the judge is asked; where it
        does not, the next attempt asks more slowly.
        """
        for _ in range(ATTEMPTS):
            began = time.perf_counter()
            stable, canary = await ask(*self._pairs, seconds)
            self._asked += stable.sent + canary.sent
            wait_until(
                "every request in Prometheus", lambda: _counted(self._prometheus) >= self._asked, 60
            )
            if median(stable.latencies_s) <= CALM_S:
                window = f"{math.ceil(time.perf_counter() - began)}s"
                return self._judge(version, window), stable, canary
            seconds *= SLOWER
        pytest.fail(f"{ATTEMPTS} times stable's own p50 was above {CALM_S} s: the machine is busy")

    def _judge(self, version: str, window: str) -> Outcome:
        flags = ["--version", version, "--prometheus", self._prometheus, "--window", window]
        self._capsys.readouterr()
        status = main(["canary", "judge", *flags, "--json"])
        text = self._capsys.readouterr().out
        judgement = json.loads(text)
        samples = next(f for f in judgement["findings"] if f["check"] == "samples")
        return Outcome(
            status=status,
            text=text,
            checks=frozenset(reason.partition(":")[0] for reason in judgement["reasons"]),
            counted=int(samples["stable"]) + int(samples["canary"]),
        )


def _counted(prometheus: str) -> int:
    """Requests of callers that Prometheus knows of."""
    return int(
        _value(prometheus, 'sum(nimbusguard_model_serving_requests_total{route="v1_predict"})')
    )


def _up(prometheus: str) -> int:
    """Targets that were scraped."""
    return int(_value(prometheus, "sum(up)"))


def _value(prometheus: str, query: str) -> float:
    """The one value of a query, 0 while there is none."""
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}, timeout=10).json()
    result = answer["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0
