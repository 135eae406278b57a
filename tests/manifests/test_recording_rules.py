"""The recording rules: their shape, the promtool cases, and that those notice a wrong rule."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from nimbusguard.contract.features import NAMES
from tests.live.programs import program

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "manifests/monitoring/recording-rules.yaml"
CASE_FOLDER = ROOT / "tests/data/promtool"
CASES = sorted(CASE_FOLDER.glob("*.yaml"))


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [program("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rules() -> Sequence[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_promtool_accepts_the_rules() -> None:
    """`promtool check rules` finds nothing to say."""
    result = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_rules_record_what_a_case_expects(case: Path) -> None:
    """Each file under tests/data/promtool tells of a cluster and of the series it must give."""
    result = promtool("test", "rules", case)

    assert result.returncode == 0, result.stdout + result.stderr


def test_the_eleven_features_are_recorded_in_the_order_of_the_state() -> None:
    """The prefix belongs to the features, and no feature is recorded twice or left out."""
    features = [rule["record"] for rule in rules() if rule["record"].startswith("nimbusguard:")]

    assert features == [f"nimbusguard:{name}" for name in NAMES]


def test_one_group_evaluates_a_step_before_what_builds_on_it() -> None:
    """A rule may name only series that are recorded above it; groups run beside one another."""
    seen: set[str] = set()

    for rule in rules():
        used = set(re.findall(r"\b[a-z]+:nimbusguard_\w+:\w+\b", rule["expr"]))
        assert used <= seen, (rule["record"], used - seen)
        seen.add(rule["record"])

    assert len(yaml.safe_load(RULES.read_text())["groups"]) == 1


def test_every_window_is_the_same_four_times_the_interval() -> None:
    """One text to replace for who scrapes more slowly; rate() needs two samples."""
    expressions = "\n".join(rule["expr"] for rule in rules())

    windows = set(re.findall(r"\[(\w+)\]|offset (\w+)", expressions))

    assert {window for pair in windows for window in pair if window} == {"1m"}
    assert yaml.safe_load(RULES.read_text())["groups"][0]["interval"] == "15s"


WRONG: dict[str, dict[str, tuple[str, str]]] = {
    "duplicates": {
        "a ReplicaSet with two owners fails the group": (
            "topk by (namespace, replicaset) (1,",
            "(",
        ),
        "a pod with two owners counts twice": ("topk by (namespace, pod) (1,", "("),
        "a second scrape of the CPU is added": (
            "max by (namespace, pod, container) (\n            sum without (id, name, image, cpu)",
            "sum by (namespace, pod, container) (\n            sum without (id, name, image, cpu)",
        ),
        "a second scrape of the memory is added": (
            "max by (namespace, pod, container) (\n            container_memory",
            "sum by (namespace, pod, container) (\n            container_memory",
        ),
        "a second cgroup of the network is added": (
            "max by (namespace, pod, interface)",
            "sum by (namespace, pod, interface)",
        ),
        "the loopback is added": ('interface!="lo"', 'interface!=""'),
        "a pod scraped by two jobs counts twice": (
            "max by (namespace, pod, instance, http_status)",
            "sum by (namespace, pod, instance, http_status)",
        ),
        "one of two ports is lost": (
            "max by (namespace, pod, instance, http_status)",
            "max by (namespace, pod, http_status)",
        ),
        "two scrapes of the gauge are added": (
            "max by (namespace, pod, instance) (",
            "sum by (namespace, pod, instance) (",
        ),
        "the pause container is throttled too": (
            'throttled_seconds_total{container!="", container!="POD"}',
            "throttled_seconds_total",
        ),
    },
    "holes": {
        "a pod that starts is a hole": ('"true"} offset 1m == 1', '"true"} == 1'),
        "a pod that is not ready is a hole": ("[1m]) == 1)", "[1m]) >= 0)"),
        "the node's traffic is the pod's": ('host_network="true"', 'host_network="never"'),
        "a missing pod is less traffic": (
            "unless on (namespace, pod)\n            pod:nimbusguard_http_requests:rate",
            "unless on (namespace) pod:nimbusguard_http_requests:rate",
        ),
        "a missing pod is less network": (
            "unless on (namespace, pod)\n            pod:nimbusguard_network_transmit:rate",
            "unless on (namespace) pod:nimbusguard_network_transmit:rate",
        ),
    },
    "missing-limit": {
        "a container without a limit is left out": (
            "unless on (namespace, pod, container)\n"
            '            container:nimbusguard_limit:max{resource="cpu"}',
            'unless on (namespace) container:nimbusguard_limit:max{resource="cpu"}',
        ),
    },
    "no-traffic": {
        "the error ratio is absent without errors": (
            "\n            or\n            0 * sum by (namespace, workload) "
            '(pod:nimbusguard_http_requests:rate{http_status!=""})',
            "",
        ),
    },
    "nodes": {
        "a pod cannot find its node by address": ('{host_ip!=""}', '{host_ip="none"}'),
        "a pod cannot find its node by name": ('{node!=""}', '{node="none"}'),
        "an idle node is below zero": ("            0\n          )", "            -1\n          )"),
    },
    "other-kinds": {
        "namesakes are added up": (
            "unless on (namespace, workload)\n"
            "              replicaset:nimbusguard_deployment:owner",
            "",
        ),
        "a DaemonSet speaks beside a StatefulSet": ("or on (namespace, workload)", "or"),
    },
    "plain": {
        "throttling adds up over the pods": (
            "avg by (namespace, workload) (\n            sum by (namespace, pod) (",
            "sum by (namespace, workload) (\n            sum by (namespace, pod) (",
        ),
        "waiting for the disk is work": ('mode=~"idle|iowait|steal"', 'mode=~"idle|steal"'),
        "the p95 is another quantile": ("histogram_quantile(0.95", "histogram_quantile(0.9"),
    },
    "pods-come-and-go": {
        "terminating pods count": (
            "\n          unless on (namespace, pod)\n          kube_pod_deletion_timestamp",
            "",
        ),
        "finished pods count": ('phase=~"Pending|Running"', 'phase=~".+"'),
        "pending pods do not count": ('phase=~"Pending|Running"', 'phase="Running"'),
        "the phase is not looked at": (
            'phase=~"Pending|Running"} == 1',
            'phase=~"Pending|Running"}',
        ),
        "deleted pods are forgotten at once": (
            "(last_over_time(pod:nimbusguard_workload:owner[1m]))",
            "(pod:nimbusguard_workload:owner)",
        ),
        "pending pods dilute the CPU": (
            "and on (namespace, pod, container)\n            container:nimbusguard_cpu:rate",
            "",
        ),
    },
    "restarted-pod": {
        "a restarted container loses its past": (
            "sum without (id, name, image, cpu)",
            "max without (id, name, image)",
        ),
    },
    "side-by-side": {
        "the ReplicaSets of any controller count": ('owner_kind="Deployment", ', ""),
        "the namespace is not joined": (
            "on (namespace, replicaset) group_left",
            "on (replicaset) group_left",
        ),
    },
    "status-codes": {
        "a counter without a code has no errors": ('{http_status!=""}', ""),
        "client errors are errors": ('http_status=~"5.."', 'http_status=~"[45].."'),
    },
}
"""The case that must notice, what is wrong, and the edit of the rules that makes it so."""
FAULTS = [(case, fault) for case, faults in WRONG.items() for fault in faults]


@pytest.mark.parametrize(("case", "fault"), FAULTS)
def test_a_case_notices_a_rule_that_is_wrong(case: str, fault: str, tmp_path: Path) -> None:
    """A case that holds for a broken rule proves nothing."""
    old, new = WRONG[case][fault]
    text = RULES.read_text()
    assert old in text, "the edit no longer applies"
    rules_copy = tmp_path / RULES.relative_to(ROOT)
    case_copy = tmp_path / CASE_FOLDER.relative_to(ROOT) / f"{case}.yaml"
    for path in (rules_copy, case_copy):
        path.parent.mkdir(parents=True)
    rules_copy.write_text(text.replace(old, new))
    shutil.copy(CASE_FOLDER / case_copy.name, case_copy)

    result = promtool("test", "rules", case_copy)

    assert result.returncode == 1, f"{case} does not fail when {fault}"
    assert "FAILED" in result.stdout + result.stderr
