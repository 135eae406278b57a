"""Every query of every panel, asked of a real Prometheus that watches the running system."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.live.processes import ROOT, wait_until
from tests.monitoring.stack import MONITORING, WORKLOADS, WatchedSystem

BOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")
DATA_TIMEOUT_S = 90.0
"""The operator looks at each workload every 15 s; a rate needs two looks."""


def board(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def queries(path: Path) -> list[tuple[str, str]]:
    """Title and expression of every query."""
    return [
        (panel["title"], target["expr"])
        for panel in board(path)["panels"]
        for target in panel.get("targets", [])
    ]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedSystem]:
    with WatchedSystem(folder=tmp_path_factory.mktemp("watched")) as running:
        yield running


def values_of(system: WatchedSystem, path: Path) -> dict[str, str]:
    """What each templating variable stands for: everything, or its first value."""
    chosen = {"__rate_interval": "1m"}
    for variable in board(path)["templating"]["list"]:
        if variable["type"] != "query":
            continue
        asked = LABEL_VALUES.fullmatch(substituted(variable["query"]["query"], chosen))
        assert asked, variable["query"]
        found: list[str] = []

        def has_values(asked: re.Match[str] = asked, found: list[str] = found) -> bool:
            found[:] = system.label_values(asked["series"], asked["label"])
            return bool(found)

        wait_until(f"values of {variable['name']}", has_values, DATA_TIMEOUT_S)
        chosen[variable["name"]] = ".*" if variable["includeAll"] else found[0]
    return chosen


def substituted(text: str, chosen: dict[str, str]) -> str:
    for name, value in chosen.items():
        text = text.replace(f"${name}", value)
    assert "$" not in text, f"a variable that is not declared: {text}"
    return text


@pytest.mark.service
@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_query_of_every_panel_has_data(system: WatchedSystem, path: Path) -> None:
    """It parses, and it answers with numbers; templating variables too."""
    chosen = values_of(system, path)
    waiting = {(title, substituted(expr, chosen)) for title, expr in queries(path)}
    assert waiting

    def answered() -> bool:
        for title, expr in sorted(waiting):
            result = system.query(expr)
            if any(not math.isnan(float(one["value"][1])) for one in result):
                waiting.discard((title, expr))
        return not waiting

    try:
        wait_until("every query has data", answered, DATA_TIMEOUT_S)
    except AssertionError as error:
        raise AssertionError(f"{error}; without data: {sorted(waiting)}") from None


@pytest.mark.service
def test_every_workload_is_seen(system: WatchedSystem) -> None:
    """Eleven features, replicas and an action of each."""

    def complete() -> bool:
        counted = system.query("count(nimbusguard_workload_feature)")
        return bool(counted) and float(counted[0]["value"][1]) == 11 * WORKLOADS

    wait_until("all features of all workloads", complete, DATA_TIMEOUT_S)

    assert len(system.query("nimbusguard_workload_action")) == WORKLOADS
    assert len(system.query("nimbusguard_workload_replicas")) == 2 * WORKLOADS


@pytest.mark.service
@pytest.mark.parametrize(
    ("series", "services"),
    [
        (
            'nimbusguard_request_duration_seconds_bucket{component="transformer",route="v1_predict"}',
            {"nimbusguard-transformer", "nimbusguard-predictor"},
        ),
        ("nimbusguard_operator_evaluation_seconds_bucket", {"nimbusguard-operator"}),
        ("nimbusguard_operator_stage_duration_seconds_bucket", {"nimbusguard-operator"}),
    ],
    ids=["transformer", "operator", "stages"],
)
def test_a_slow_bucket_leads_to_a_trace(
    system: WatchedSystem, series: str, services: set[str]
) -> None:
    """Prometheus keeps its exemplar, and the collector has the trace that the exemplar names."""

    def led() -> bool:
        traces = system.traces()
        return any(services <= traces.get(one, set()) for one in system.exemplars(series))

    wait_until("an exemplar whose trace was collected", led, DATA_TIMEOUT_S)


@pytest.mark.service
def test_every_family_of_every_component_is_on_the_page(system: WatchedSystem) -> None:
    """Those of libraries too; and what the page names beside ours, each component has."""
    page = (ROOT / "docs/metrics.md").read_text()
    others = page.partition("## Of the processes and libraries")[2].partition("\n## ")[0]
    urls = {
        "transformer": system.transformers["stable"].url,
        "predictor": system.predictors["stable"].url,
        "operator": system.operator,
    }
    for component, url in urls.items():
        text = httpx.get(f"{url}/metrics", trust_env=False).text
        families = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
        ours = {name for name in families if name.startswith("nimbusguard_")}

        assert {name for name in ours if f"`{name}`" not in page} == set()
        rows = re.findall(r"^\| (`.+?) \| (.+?) \|", others, re.MULTILINE)
        expected = {
            name
            for names, where in rows
            for name in re.findall(r"`(\w+)`", names)
            if where == "all three" or component in where
        }
        assert families - ours == expected, component


@pytest.mark.service
def test_the_operator_logs_one_line_a_decision(system: WatchedSystem) -> None:
    """With workload, source, version and request id, and nothing secret."""
    log = system.folder / "operator.jsonl"

    def decisions() -> list[dict[str, Any]]:
        text = log.read_text()
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [line for line in lines if line["message"] == "decision"]

    wait_until("a decision of every workload", lambda: len(decisions()) >= WORKLOADS, 60)
    counted = system.query("sum(nimbusguard_operator_decisions_total)")

    lines = decisions()
    assert {line["workload"] for line in lines} == {f"Deployment/w{n}" for n in range(WORKLOADS)}
    assert all(len(line["request_id"]) == 16 for line in lines)
    assert {line["model_version"] for line in lines if line["source"] == "kserve"} == {"1"}
    assert float(counted[0]["value"][1]) <= len(decisions())


@pytest.mark.service
def test_an_alert_reaches_alertmanager(system: WatchedSystem) -> None:
    """The canary's predictor dies; its transformer is not ready, and somebody hears of it."""
    assert "NimbusGuardNotReady" not in system.alerts()

    system.canary.close()

    wait_until("the alert", lambda: "NimbusGuardNotReady" in system.alerts(), 30)
    answer = httpx.get(f"{system.alertmanager}/api/v2/alerts", trust_env=False)
    (alert,) = (one for one in answer.json() if one["labels"]["alertname"] == "NimbusGuardNotReady")
    assert alert["labels"]["component"] == "transformer"
    assert alert["annotations"]["runbook_url"] == "docs/runbooks.md#nimbusguardnotready"


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_provisioned(path: Path) -> None:
    """A uid of its own, panels with titles and descriptions, and the data source as a variable."""
    document = board(path)
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]

    assert document["uid"] == f"nimbusguard-{path.stem}"
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    assert all(panel["title"] and panel["description"] for panel in panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_the_pod_monitor_finds_the_operator() -> None:
    """Its labels, its port by name, and labels of its own that are left as they are."""
    monitor = yaml.safe_load((MONITORING / "podmonitor.yaml").read_text())["spec"]
    text = (ROOT / "manifests/autoscaler/deployment.yaml").read_text()
    (deployment,) = (one for one in yaml.safe_load_all(text) if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]

    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert monitor["namespaceSelector"]["matchNames"] == [deployment["metadata"]["namespace"]]
    (endpoint,) = monitor["podMetricsEndpoints"]
    ports = {port["name"] for one in pod["spec"]["containers"] for port in one["ports"]}
    assert endpoint["port"] in ports
    assert endpoint["honorLabels"] is True


def test_the_config_maps_hold_every_dashboard_and_rule() -> None:
    """As kustomize renders them, with the label that Grafana's sidecar looks for."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(MONITORING)], capture_output=True, text=True, check=True
    )
    maps = {
        each["metadata"]["name"]: each
        for each in yaml.safe_load_all(done.stdout)
        if each["kind"] == "ConfigMap"
    }

    boards = maps["nimbusguard-dashboards"]
    assert boards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert boards["data"] == {path.name: path.read_text() for path in BOARDS}
    rules = ("recording-rules.yaml", "slo-rules.yaml", "alerts.yaml")
    assert maps["nimbusguard-rules"]["data"] == {
        name: (MONITORING / name).read_text() for name in rules
    }
