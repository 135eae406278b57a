"""`docs/metrics-in.md` says what the rules and the code do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from nimbusguard.contract.features import NAMES
from nimbusguard.contract.promql import workload_query
from tests.live.programs import program

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "manifests/monitoring/recording-rules.yaml"
PAGE = (ROOT / "docs/metrics-in.md").read_text()


def recorded(text: str) -> dict[str, str]:
    groups: list[dict[str, Any]] = yaml.safe_load(text)["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"]}


def test_every_formula_on_the_page_is_the_rule() -> None:
    """All eleven, word for word, in the order of the state."""
    shown = re.findall(r"<!-- rule: (\S+) -->\n```promql\n(.*?)\n```", PAGE, re.DOTALL)
    rules = recorded(RULES.read_text())

    assert [name for name, _ in shown] == [f"nimbusguard:{name}" for name in NAMES]
    assert {name: expr.strip() for name, expr in shown} == {
        name: rules[name].strip() for name, _ in shown
    }


def test_the_table_lists_the_features_in_order() -> None:
    """One row each."""
    assert re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE) == [
        (str(index), name) for index, name in enumerate(NAMES)
    ]


def test_the_query_on_the_page_is_the_one_that_the_clients_send() -> None:
    """With and without the age limit."""
    shown = [" ".join(text.split()) for text in re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)]

    assert workload_query("shop", "web") in shown
    assert workload_query("shop", "web", max_age_s=60).strip("()") in [
        text.strip("()") for text in shown
    ]


def test_the_command_makes_a_prometheus_rule(tmp_path: Path) -> None:
    """The operator's object holds exactly the groups of the rule file."""
    (command,) = re.findall(r"<!-- command -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
    source = tmp_path / RULES.relative_to(ROOT)
    source.parent.mkdir(parents=True)
    source.write_text(RULES.read_text())

    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True, timeout=10)

    made = yaml.safe_load((tmp_path / "prometheusrule.yaml").read_text())
    assert made["kind"] == "PrometheusRule"
    assert made["spec"] == yaml.safe_load(RULES.read_text())


def test_the_rules_can_be_given_another_window(tmp_path: Path) -> None:
    """The page's `sed` changes every window and the interval, and promtool accepts the result."""
    (command,) = re.findall(r"`(sed -e [^`]*)`", PAGE)
    changed = tmp_path / "rules.yaml"

    with RULES.open() as source, changed.open("w") as target:
        subprocess.run(
            ["bash", "-euc", command], stdin=source, stdout=target, check=True, timeout=10
        )

    expressions = "\n".join(recorded(changed.read_text()).values())
    assert set(re.findall(r"\[(\w+)\]|offset (\w+)", expressions)) == {("2m", ""), ("", "2m")}
    assert yaml.safe_load(changed.read_text())["groups"][0]["interval"] == "30s"
    done = subprocess.run(
        [program("promtool"), "check", "rules", str(changed)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
