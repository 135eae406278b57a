"""The drill with real servers: two transformers, two predictors, a real Prometheus, one judge.

Version 1 is stable; the canary is good, fails 5 % of its answers, is slow, or always scales up. The
pure judge goes through many repetitions in `tests/policy/test_canary.py`; here one of each shows
that what it reads is what happened.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest
import yaml

from nimbusguard.cli import main
from nimbusguard.contract.features import FEATURES
from tests.isvc.load import Load
from tests.isvc.versions import publish_versions
from tests.live.stack import start, wait_until

pytestmark = [pytest.mark.images]

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "nimbusguard-serving"
REQUESTS, SHARE, SECONDS = 3000, 0.25, 20
DELAY_S = 0.03
"""Far more than the hop takes, on a loaded machine too."""


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Pair:
    """A transformer and the predictor behind it."""

    url: str
    predictor: str

    @property
    def address(self) -> tuple[str, int]:
        """Of the transformer."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    @property
    def targets(self) -> list[str]:
        """What Prometheus scrapes."""
        return [self.url.removeprefix("http://"), self.predictor]


class Drill:
    """Starts the parts; everything ends with the stack."""

    def __init__(self, stack: ExitStack, folder: Path, store: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._store = store

    def pair(self, version: str, *, delay_s: float = 0.0, error_share: float = 0.0) -> Pair:
        """A version behind its own transformer, with a faulty hop if asked for."""
        directory = self._store / "nimbusguard-dqn" / version
        predictor = self._server("predictor", f"--model_dir={directory}")
        hop = predictor
        if delay_s or error_share:
            command = ["tests/canary/faults.py", str(predictor), str(delay_s), str(error_share)]
            proxy = start([sys.executable, *command])
            self._stack.callback(proxy.end)
            hop = int(proxy.first_line())
        flags = (f"--predictor_host=127.0.0.1:{hop}", "--predictor_protocol=v2")
        url = f"http://127.0.0.1:{self._server('transformer', *flags)}"
        wait_until("ready", lambda: _ready(f"{url}/v1/models/nimbusguard-dqn"), 120)
        return Pair(url, f"127.0.0.1:{predictor}")

    def prometheus(self, *pairs: Pair) -> str:
        """One that scrapes all of them every second."""
        targets = [target for pair in pairs for target in pair.targets]
        job = {
            "job_name": "serving",
            "scrape_interval": "1s",
            "static_configs": [{"targets": targets, "labels": {"namespace": NAMESPACE}}],
        }
        path = self._folder / "prometheus.yaml"
        path.write_text(yaml.safe_dump({"scrape_configs": [job]}))
        port = free_port()
        process = start(
            [
                "prometheus",
                f"--config.file={path}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            log=self._folder / "prometheus.log",
        )
        self._stack.callback(process.end)
        wait_until("Prometheus", lambda: _ready(f"http://127.0.0.1:{port}/-/ready"), 30)
        return f"http://127.0.0.1:{port}"

    def _server(self, module: str, *flags: str) -> int:
        port = free_port()
        log = self._folder / f"{module}-{port}.log"
        command = [sys.executable, "-m", module, f"--http_port={port}", "--enable_grpc=false"]
        process = start([*command, *flags], log=log)
        self._stack.callback(process.end)
        if module == "predictor":
            address = f"http://127.0.0.1:{port}/v1/models/nimbusguard-dqn"
            wait_until(f"{module} ready", lambda: _ready(address), 120)
        return port


def _ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


async def ask(stable: Pair, canary: Pair) -> int:
    """3,000 requests over twenty seconds, a quarter of them to the canary; how many it became."""
    rng = np.random.default_rng(7)
    lows = np.array([feature.minimum for feature in FEATURES])
    highs = np.array([feature.maximum for feature in FEATURES])
    rows = rng.uniform(lows, highs, (500, len(FEATURES)))
    bodies = tuple(orjson.dumps({"instances": [row]}) for row in rows.tolist())
    loads = [
        Load(
            address=pair.address,
            host="drill",
            path="/v1/models/nimbusguard-dqn:predict",
            bodies=bodies,
            rate=share * REQUESTS / SECONDS,
            connections=8,
        )
        for pair, share in ((stable, 1 - SHARE), (canary, SHARE))
    ]

    async def stop() -> None:
        await asyncio.sleep(SECONDS)
        for load in loads:
            load.stop()

    await asyncio.gather(stop(), *(load.run() for load in loads))
    return sum(load.sent for load in loads)


def scraped(prometheus: str) -> int:
    """Requests of callers that Prometheus knows of."""
    query = 'sum(nimbusguard_model_serving_requests_total{route="v1_predict"})'
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}).json()
    return int(float(answer["data"]["result"][0]["value"][1]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 to 4."""
    return publish_versions(tmp_path_factory.mktemp("store"))


@pytest.fixture
def drill(tmp_path: Path, store: Path) -> Iterator[Drill]:
    """Parts to start."""
    with ExitStack() as stack:
        yield Drill(stack, tmp_path, store)


CASES = {
    "good": ("2", {}, 0, {"fingerprint", "samples", "errors", "p99", "action mix"}),
    "5 % errors": ("2", {"error_share": 0.05}, 4, {"errors", "refused"}),
    "slow": ("2", {"delay_s": DELAY_S}, 4, {"p50", "p99"}),
    "always SCALE_UP_2": ("3", {}, 4, {"action mix"}),
}


@pytest.mark.parametrize("name", CASES)
async def test_the_verdict_is_right_within_3000_requests(
    name: str, drill: Drill, capsys: pytest.CaptureFixture[str]
) -> None:
    """Good: promote (status 0). Bad: roll back (status 4), for the right reason."""
    version, faults, expected, checks = CASES[name]
    stable, canary = drill.pair("1"), drill.pair(version, **faults)  # type: ignore[arg-type]
    prometheus = drill.prometheus(stable, canary)

    asked = await ask(stable, canary)
    wait_until("every request in Prometheus", lambda: scraped(prometheus) >= asked, 30)
    status = main(
        [
            "canary",
            "judge",
            "--version",
            version,
            "--prometheus",
            prometheus,
            "--window",
            "2m",
            "--json",
        ]
    )

    judgement = json.loads(capsys.readouterr().out)
    deciding = {reason.partition(":")[0] for reason in judgement["reasons"]}
    assert status == expected, judgement
    assert deciding & checks, judgement
    counted = next(f for f in judgement["findings"] if f["check"] == "samples")
    assert int(counted["stable"]) + int(counted["canary"]) <= REQUESTS * 1.1


def test_a_version_with_a_foreign_table_serves_nobody(store: Path, tmp_path: Path) -> None:
    """Its predictor ends at once and says why; there is nothing to judge."""
    process = start(
        [sys.executable, "-m", "predictor", f"--model_dir={store / 'nimbusguard-dqn' / '4'}"],
        log=tmp_path / "foreign.log",
    )

    wait_until("its end", lambda: process.popen.poll() is not None, 60)
    process.end()

    assert process.popen.returncode == 1
    assert "expected fingerprint" in (tmp_path / "foreign.log").read_text()
