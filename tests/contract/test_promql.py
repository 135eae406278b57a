"""Names and queries: what Kubernetes allows is asked for exactly, nothing else reaches PromQL."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.promql import check_workload, workload_query, workloads_query
from tests.live.programs import program


def test_the_query_for_one_workload_asks_for_every_feature_at_once() -> None:
    """All series with the prefix, of this workload."""
    assert workload_query("shop", "web") == (
        '{__name__=~"nimbusguard:.+", namespace="shop", workload="web"}'
    )


def test_a_dot_in_a_name_is_no_wildcard_in_a_batch() -> None:
    """`web.v1` must not select `web-v1`."""
    assert workloads_query([("shop", "web.v1"), ("shop", "api"), ("shop", "api")]) == (
        '{__name__=~"nimbusguard:.+", namespace="shop", workload=~"api|web\\\\.v1"}'
    )


@pytest.mark.parametrize(
    "name", ["web", "a", "0", "web-1", "1-web", "a" * 63, "web.v1", "a" * 253, "a-b.c-d.e"]
)
def test_a_name_that_kubernetes_allows_is_accepted(name: str) -> None:
    """A Deployment is named by a DNS-1123 subdomain of at most 253 characters."""
    check_workload("shop", name, "instance 0")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-web",
        "web-",
        "Web",
        "web_1",
        "web.",
        ".web",
        "web..v1",
        "web-.v1",
        "a" * 254,
        "web\n",
        "wéb",
        'web"} or vector(1) #',
        ".+",
        "web|api",
        "web\\",
        None,
        7,
        True,
        ["web"],
        {"a": 1},
    ],
    ids=repr,
)
def test_any_other_name_is_refused(name: object) -> None:
    """Before it reaches PromQL, and with the field's name."""
    with pytest.raises(InvalidRequest, match=r"^instance 4: workload\.deployment: expected a DNS"):
        check_workload("shop", name, "instance 4")


@pytest.mark.parametrize("namespace", ["", "a.b", "a" * 64, "Shop", 'a"', "a\n", None, 3], ids=repr)
def test_a_namespace_is_a_label_without_dots(namespace: object) -> None:
    """At most 63 characters."""
    with pytest.raises(InvalidRequest, match=r"^instance 4: workload\.namespace: expected a DNS"):
        check_workload(namespace, "web", "instance 4")


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_text_leaves_its_quotes(namespace: str, name: str) -> None:
    """A query is refused, or holds the names between quotes that they cannot end."""
    try:
        query = workload_query(namespace, name)
    except InvalidRequest:
        return

    assert query.count('"') == 6
    assert "\\" not in query


def test_a_batch_of_none_is_refused() -> None:
    """Its query would select every workload of the cluster."""
    with pytest.raises(InvalidRequest, match="at least one workload"):
        workloads_query([])


def results(tmp_path: Path, series: Mapping[str, str], query: str, time: str) -> list[str]:
    """What promtool's own engine answers: the label sets of the result."""
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": time, "exp_samples": []}],
    }
    path = tmp_path / "query.yaml"
    document = {"rule_files": [], "evaluation_interval": "15s", "tests": [test]}
    path.write_text(yaml.safe_dump(document))
    command = [program("promtool"), "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "err:" not in done.stderr, done.stderr
    said = done.stderr.partition("got: ")[2]
    return sorted(part.rpartition("}")[0] + "}" for part in said.split(", {") if "}" in part)


def test_a_batch_selects_those_workloads_and_no_others(tmp_path: Path) -> None:
    """Read by Prometheus' engine: neither the cross product of the names nor a wildcard."""
    series = {
        f'nimbusguard:pod_count{{namespace="{namespace}", workload="{name}"}}': "1x20"
        for namespace in ("shop", "test")
        for name in ("web.v1", "webxv1", "api", "api-2")
    }

    query = workloads_query([("shop", "web.v1"), ("test", "api")], max_age_s=60)
    found = results(tmp_path, series, query, "2m")

    assert len(found) == 2
    assert 'namespace="shop", workload="web.v1"' in found[1] + found[0]
    assert 'namespace="test", workload="api"' in found[1] + found[0]


@pytest.mark.parametrize(
    ("max_age_s", "time", "expected"),
    [
        (60, "2m", 1),
        # Recorded until 2 min, and then no more: the rule's evaluation fails, say.
        (60, "4m", 0),
        (None, "4m", 1),
        (None, "8m", 0),
    ],
)
def test_a_value_that_is_no_longer_recorded_is_absent(
    tmp_path: Path, max_age_s: int | None, time: str, expected: int
) -> None:
    """After `max_age_s`; without one after Prometheus' own five minutes."""
    series = {'nimbusguard:pod_count{namespace="shop", workload="web"}': "1x8"}

    found = results(tmp_path, series, workload_query("shop", "web", max_age_s=max_age_s), time)

    assert len(found) == expected


def test_a_series_that_became_absent_is_not_brought_back(tmp_path: Path) -> None:
    """A rule without a result marks its series stale at once, whatever the age that is allowed."""
    series = {'nimbusguard:pod_count{namespace="shop", workload="web"}': "1x8 stale"}

    found = results(tmp_path, series, workload_query("shop", "web", max_age_s=60), "2m15s")

    assert found == []
