"""`nimbusguard decide`: what it sends, what it prints, and how it fails."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from nimbusguard.cli import main
from nimbusguard.contract.features import NAMES
from nimbusguard.contract.fingerprint import FINGERPRINT

DECISION: dict[str, Any] = {
    "action": "SCALE_UP_1",
    "action_index": 3,
    "replica_change": 1,
    "current_replicas": 4,
    "target_replicas": 5,
    "q_values": [-0.5, 0.0, 0.5, 1.0, 0.25],
    "q_margin": 0.5,
    "allowed_actions": ["SCALE_DOWN_2", "SCALE_DOWN_1", "NO_ACTION", "SCALE_UP_1"],
    "clipped_features": ["cpu_utilization"],
    "imputed_features": ["queue_depth"],
    "model_name": "nimbusguard-dqn",
    "model_version": "2",
    "fingerprint": FINGERPRINT,
}
METRICS: dict[str, Any] = {name: index + 1.5 for index, name in enumerate(NAMES[:7])}


class Fake(ThreadingHTTPServer):
    """A transformer and a Prometheus on one free loopback port."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []
        self.queries: list[str] = []
        self.series: dict[str, str] = {name: str(index) for index, name in enumerate(NAMES)}
        self.refusal: tuple[int, str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def predict(self, body: bytes) -> tuple[int, Any]:
        self.bodies.append(json.loads(body))
        if self.refusal:
            return self.refusal[0], {"error": self.refusal[1]}
        return 200, {"predictions": [DECISION] * len(self.bodies[-1]["instances"])}

    def query(self, body: bytes) -> tuple[int, Any]:
        self.queries += parse_qs(body.decode())["query"]
        result = [
            {
                "metric": {
                    "__name__": f"nimbusguard:{name}",
                    "namespace": "shop",
                    "workload": "web",
                },
                "value": [0, text],
            }
            for name, text in self.series.items()
        ]
        return 200, {"status": "success", "data": {"resultType": "vector", "result": result}}


class Handler(BaseHTTPRequestHandler):
    """Reads a POST and answers JSON."""

    server: Fake

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        answer = self.server.query if self.path == "/api/v1/query" else self.server.predict
        status, document = answer(body)
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nothing."""


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def payload(folder: Path, document: Any) -> str:
    path = folder / "payload.json"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize(
    ("document", "instances"),
    [
        (METRICS, [METRICS]),
        ({"instances": [METRICS, METRICS]}, [METRICS, METRICS]),
        (list(range(11)), [list(range(11))]),
        ({"cluster_state": METRICS, "current_replicas": 3}, [{**METRICS, "current_replicas": 3}]),
        (
            {"workload": {"namespace": "shop", "deployment": "web"}, "max_replicas": 9},
            [{"workload": {"namespace": "shop", "deployment": "web"}, "max_replicas": 9}],
        ),
        ({"prometheus": {"status": "error"}}, [{"prometheus": {"status": "error"}}]),
        ({"cpu_utilization": "NaN", "oops": None}, [{"cpu_utilization": "NaN", "oops": None}]),
    ],
    ids=["one", "body", "array", "cluster state", "workload", "prometheus", "nonsense"],
)
def test_a_payload_travels_as_it_stands(
    fake: Fake, tmp_path: Path, document: Any, instances: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every form that the transformer takes, and what it will refuse too: it alone judges."""
    status = main(["decide", payload(tmp_path, document), "--endpoint", fake.url, "--json"])

    assert status == 0
    assert fake.bodies == [{"instances": instances}]
    assert json.loads(capsys.readouterr().out) == {"predictions": [DECISION] * len(instances)}


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_a_payload_is_read_from_standard_input(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Without a file, or for a dash."""
    text = io.TextIOWrapper(io.BytesIO(json.dumps(METRICS).encode()))
    monkeypatch.setattr(sys, "stdin", text)

    assert main(["decide", *arguments, "--endpoint", fake.url]) == 0
    assert fake.bodies == [{"instances": [METRICS]}]


def test_the_table_says_what_was_decided_and_on_what(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The change, the features with what was clipped or read as 0, and every action's value."""
    main(["decide", payload(tmp_path, METRICS), "--endpoint", fake.url])

    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert said.startswith("SCALE_UP_1: 4 → 5 replicas")
    assert "cpu_utilization 1.5 ratio clipped to 0 … 1" in said
    assert "queue_depth absent requests read as 0" in said
    assert "SCALE_UP_1 +1 1.0000 chosen" in said
    assert "SCALE_UP_2 +2 0.2500 outside the bounds" in said
    assert f"nimbusguard-dqn version 2, {FINGERPRINT}" in said


def test_a_payload_without_features_has_no_table_of_them(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The transformer looked them up; only it has seen them."""
    reference = {"workload": {"namespace": "shop", "deployment": "web"}}

    main(["decide", payload(tmp_path, reference), "--endpoint", fake.url])

    said = capsys.readouterr().out
    assert "SCALE_UP_1: 4 → 5 replicas" in said
    assert "cpu_utilization" not in said


def test_each_of_several_decisions_has_its_place(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the instances."""
    body = {"instances": [METRICS, list(range(11))]}

    main(["decide", payload(tmp_path, body), "--endpoint", fake.url])

    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "request_rate 4.5 " in said.partition("instance 1")[0]
    assert "request_rate 3 " in said.partition("instance 1")[2]


def test_a_workload_is_looked_up_in_prometheus(fake: Fake) -> None:
    """One query; its values and the bounds go to the transformer, NaN as absent."""
    fake.series |= {"response_time_p95": "NaN", "queue_depth": "+Inf"}

    status = main(
        [
            "decide",
            *("--prometheus", fake.url, "--namespace", "shop", "--deployment", "web"),
            *("--endpoint", fake.url, "--min-replicas", "2", "--max-replicas", "9", "--json"),
        ]
    )

    values: dict[str, Any] = {name: float(index) for index, name in enumerate(NAMES)}
    values |= {"response_time_p95": None, "queue_depth": "+Inf"}
    workload = {"namespace": "shop", "deployment": "web"}
    bounds = {"min_replicas": 2, "max_replicas": 9}
    assert status == 0
    assert len(fake.queries) == 1
    assert fake.bodies == [{"instances": [{**values, **bounds, "workload": workload}]}]


def test_the_endpoint_is_taken_from_the_environment(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`KSERVE_ENDPOINT`, where no flag says otherwise."""
    monkeypatch.setenv("KSERVE_ENDPOINT", fake.url)

    assert main(["decide", payload(tmp_path, METRICS)]) == 0
    assert len(fake.bodies) == 1


def test_without_any_endpoint_the_services_of_this_machine_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the settings' default, a name that resolves inside a cluster only."""
    monkeypatch.delenv("KSERVE_ENDPOINT", raising=False)
    asked = []

    class Refusing:
        def __init__(self, settings: Any) -> None:
            asked.append(settings.endpoint.predict_url)
            raise SystemExit(7)

    monkeypatch.setattr("nimbusguard.commands.decide.Client", Refusing)

    with pytest.raises(SystemExit):
        main(["decide", payload(tmp_path, METRICS)])

    assert asked == ["http://127.0.0.1:8080/v1/models/nimbusguard-dqn:predict"]


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (None, "payload.json: expected a readable file, got: No such file or directory"),
        ("{", "payload.json: expected JSON, got: "),
        ("7", "payload: expected an object or an array for an instance, got 7"),
        ('{"instances": ["x"]}', "payload: expected an object or an array for an instance, got"),
        ('{"instances": []}', "instances: expected at least one, got none"),
    ],
)
def test_a_payload_that_cannot_be_sent_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, fragment: str
) -> None:
    """Exit status 1 and one line that says what was expected."""
    path = tmp_path / "payload.json"
    if content is not None:
        path.write_text(content)

    assert main(["decide", str(path), "--endpoint", "http://127.0.0.1:9"]) == 1

    said = capsys.readouterr().err
    assert said.startswith("nimbusguard decide: ")
    assert fragment in said
    assert said.count("\n") == 1


def test_a_refusal_of_the_transformer_is_repeated(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its words, and exit status 1."""
    fake.refusal = (400, "instance 0: pod_count: expected a number, got absent")

    assert main(["decide", payload(tmp_path, {}), "--endpoint", fake.url]) == 1
    assert "instance 0: pod_count: expected a number, got absent" in capsys.readouterr().err


def test_an_unknown_workload_is_no_decision(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    """Prometheus has no series of it, and the transformer is not asked."""
    fake.series = {}
    flags = ["--prometheus", fake.url, "--namespace", "shop", "--deployment", "wbe"]

    assert main(["decide", *flags, "--endpoint", fake.url]) == 1

    assert "workload shop/wbe: expected series nimbusguard:<feature>" in capsys.readouterr().err
    assert fake.bodies == []


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["x.json", "--prometheus", "http://p"], "a payload and --prometheus exclude each other"),
        (["--prometheus", "http://p"], "--prometheus needs --namespace and --deployment"),
        (["--prometheus", "http://p", "--namespace", "shop"], "needs --namespace and --deployment"),
        (["--namespace", "shop"], "--namespace needs --prometheus"),
        (["x.json", "--max-replicas", "3"], "--max-replicas needs --prometheus"),
    ],
)
def test_flags_that_do_not_go_together_are_wrong_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], fragment: str
) -> None:
    """Exit status 2, as argparse has it."""
    with pytest.raises(SystemExit) as caught:
        main(["decide", *arguments])

    assert caught.value.code == 2
    assert fragment in capsys.readouterr().err
