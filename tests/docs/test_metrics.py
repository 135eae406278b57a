"""Every metric, alert, rule, setting, command and log field: in the documents and in the code."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from autoscaler.logs import log_decision
from autoscaler.metrics import OperatorMetrics
from bench.__main__ import PARTS
from nimbusguard.cli import COMMANDS
from nimbusguard.telemetry.settings import TracingSettings, tracing_settings
from predictor.settings import RAY_KEYS, RaySettings, ray_settings
from serving.metrics import ServingMetrics
from serving.settings import KEYS, ServerSettings, server_settings
from training.telemetry import (
    EXPERIMENTS,
    HELP,
    MODEL_ACCURACY,
    PIPELINE_RUNS,
    TRAINING_DURATION,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = (
    "nimbusguard", "serving", "predictor", "transformer", "training", "autoscaler", "model_store",
)  # fmt: skip
PUSHED = {
    f"{PIPELINE_RUNS}_total": {"outcome"},
    TRAINING_DURATION: {"seed"},
    MODEL_ACCURACY: {"model"},
    f"{EXPERIMENTS}_total": {"outcome"},
}
"""Left at a Pushgateway by pipelines and searches, with the labels that they push."""
SERIES = re.compile(r"\bnimbusguard_[a-z0-9_]+")


def section(title: str) -> str:
    """One section of the page, sub-sections included."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def listed(title: str) -> dict[str, set[str]]:
    """Metrics of a section's tables with their labels."""
    rows = re.findall(r"^\| `(\w+)` \| (?:`([\w,]+)`)? ?\|", section(title), re.MULTILINE)
    return {name: set(labels.split(",")) - {""} for name, labels in rows}


def operators() -> dict[str, set[str]]:
    """Metrics of the operator; those of the process are not ours."""
    registry = CollectorRegistry()
    OperatorMetrics(registry)
    found = made(registry._collector_to_names)
    return {name: labels for name, labels in found.items() if name.startswith("nimbusguard_")}


def made(collectors: Iterable[object]) -> dict[str, set[str]]:
    """Metrics of the code with their labels, samples or none."""
    found = {}
    for collector in collectors:
        families = [collector] if hasattr(collector, "_labelnames") else collector.collect()  # type: ignore[attr-defined]
        for family in families:
            name = getattr(family, "_name", None) or family.name
            kind = getattr(family, "_type", None) or family.type
            found[name + "_total" * (kind == "counter")] = set(family._labelnames)
    return found


def sources() -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, path.read_text()


def test_every_metric_of_the_servers_is_on_the_page() -> None:
    """With its labels, and no other."""
    code = made([ServingMetrics("transformer", "m")])

    ray = {"nimbusguard_ray_requests_total": {"route", "status"}}
    assert listed("Transformer and predictor") == code | ray


def test_every_metric_of_the_operator_is_on_the_page() -> None:
    """With its labels, and no other."""
    code = operators()
    del code["nimbusguard_build_info"]  # listed once, with the servers'
    assert listed("Operator") == code


def test_the_metrics_of_training_are_on_the_page() -> None:
    """All that code knows how to push, with the labels of the calls that push it."""
    assert {name.removesuffix("_total") for name in PUSHED} == set(HELP)
    assert listed("Pipeline and training") == PUSHED
    calls = {
        (ast.unparse(node.args[0]), *sorted(word.arg for word in node.keywords if word.arg))
        for path, text in sources()
        if path.name != "telemetry.py"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and _called(node) in {"count", "gauge"} and node.keywords
    }
    assert calls == {
        ("PIPELINE_RUNS", "job", "outcome"),
        ("EXPERIMENTS", "job", "outcome"),
        ("TRAINING_DURATION", "job", "seed"),
        ("MODEL_ACCURACY", "job", "model"),
    }


def test_every_route_and_every_stage_is_on_the_page() -> None:
    """And no other; labels are bounded because the code writes them out."""
    serving = "".join(path.read_text() for path in (ROOT / "serving").glob("*.py"))
    routes = set(re.findall(r'\broute(?:: bytes|: str)? = "(\w+)"', serving))
    routes |= set(re.findall(r'_begin\(request, "(\w+)"\)', serving))
    routes |= set(re.findall(r'"(grpc_\w+)"', serving)) - {"grpc_port"}
    routes |= set(re.findall(r'^_ROUTE: Final = "(\w+)"', serving, re.MULTILINE))
    table = section("Transformer and predictor").partition("| routes | what |")[2]
    rows = re.findall(r"^\| (`.+?) \|", table.partition("\n\n")[0], re.MULTILINE)
    stages = {
        stage for _, text in sources() for stage in re.findall(r'observe_stage\("(\w+)"', text)
    }
    (row,) = re.findall(r"^\| `nimbusguard_stage_duration_seconds`.*", PAGE, re.MULTILINE)

    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == routes
    assert set(re.findall(r"`(\w+)`", row.split("|")[3])) == stages


def test_a_metric_that_code_names_is_on_the_page() -> None:
    """Also where it is made outside of the two classes above, such as Ray's."""
    known = set(SERIES.findall(PAGE))
    bases = {name.removesuffix("_total") for name in known}
    for path, text in sources():
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and node.args
                and re.fullmatch(r"\w*(Counter|Gauge|Histogram|MetricFamily)", _called(node))
                and isinstance(node.args[0], ast.Constant)
            ):
                name = str(node.args[0].value).removesuffix("_total")
                assert name in bases, f"{path.relative_to(ROOT)}: {name}"


def _called(node: ast.Call) -> str:
    function = node.func
    return getattr(function, "attr", "") or getattr(function, "id", "")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_metric_that_a_document_names_exists(path: Path) -> None:
    """In prose, tables and queries alike; recording rules count."""
    code = made([ServingMetrics("transformer", "m")]) | operators()
    known = set(code) | set(PUSHED) | {"nimbusguard_ray_requests_total", "nimbusguard_transformer"}
    steps = {
        rule["record"]
        for file in (ROOT / "manifests/monitoring").glob("*-rules.yaml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    }
    text = path.read_text()
    for name in re.findall(r"\b[a-z]+:nimbusguard_\w+:\w+", text):
        assert name in steps, name
    text = re.sub(r"\b\w*:nimbusguard_\w+:\w*", "", text)
    for name in SERIES.findall(text):
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        assert {name, base} & known, name


def test_every_query_names_metrics_that_exist() -> None:
    """In alerts, rules and dashboards."""
    known = set(made([ServingMetrics("transformer", "m")]) | operators())
    folder = ROOT / "manifests/monitoring"
    files = [folder / "alerts.yaml", folder / "slo-rules.yaml", *folder.glob("dashboards/*.json")]
    for file in files:
        text = re.sub(r"\w+:nimbusguard_\w+:\w+", "", file.read_text())
        for name in SERIES.findall(text):
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            assert {name, base} & (known | set(PUSHED)), f"{file.name}: {name}"


def test_every_metric_is_shown_somewhere() -> None:
    """A metric on no dashboard is one that nobody looks at."""
    shown = "".join(
        path.read_text() for path in (ROOT / "manifests/monitoring/dashboards").glob("*.json")
    )
    code = made([ServingMetrics("transformer", "m")]) | operators()

    assert [name for name in sorted({*code, *PUSHED}) if name not in shown] == []


def test_every_alert_is_on_the_page() -> None:
    """And no other."""
    rules = yaml.safe_load((ROOT / "manifests/monitoring/alerts.yaml").read_text())
    code = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}

    assert set(re.findall(r"`(NimbusGuard\w+)`", section("Alerts"))) == code
    assert set(re.findall(r"\bNimbusGuard[A-Z]\w+", PAGE)) == code
    for path in DOCUMENTS:
        named = set(re.findall(r"\bNimbusGuard[A-Z]\w+", path.read_text()))
        assert named - {"NimbusGuardError"} <= code, path.name


def test_every_objective_is_recorded_over_every_window() -> None:
    """The page names the first; the others differ by their window."""
    rules = yaml.safe_load((ROOT / "manifests/monitoring/slo-rules.yaml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"]}
    (windows,) = re.findall(r"recorded over ([\w, ]+?)\.", section("Objectives"))
    bases = re.findall(r"`(\w+:\w+:ratio_rate)5m`", section("Objectives"))

    names = re.findall(r"\d+[mhd]", windows)
    assert recorded == {base + window for base in bases for window in names}


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    """Those with a prefix of ours, over all documents and all code."""
    pattern = re.compile(r"\b(?:NIMBUSGUARD|AUTOSCALER)_[A-Z_]+[A-Z]\b")
    code = {
        name
        for _, text in sources()
        for name in re.findall(r'"((?:NIMBUSGUARD|AUTOSCALER)_[A-Z_]+[A-Z])"', text)
    }
    documented = {name for path in DOCUMENTS for name in pattern.findall(path.read_text())}

    assert documented == code


def test_every_setting_without_a_prefix_is_documented_too() -> None:
    """Those that users know by older names; `.env.example` is held to the code elsewhere."""
    example = (ROOT / ".env.example").read_text()
    text = "".join(path.read_text() for path in DOCUMENTS)

    names = re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)
    assert len(names) > 40
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def defaults_of(path: str) -> dict[str, str]:
    """Settings and defaults of the tables of a page."""
    text = (ROOT / path).read_text()
    return dict(re.findall(r"^\| `(NIMBUSGUARD_\w+)` \| `([^`]+)` \|", text, re.MULTILINE))


def test_the_documented_defaults_are_those_of_the_code() -> None:
    """Read back by the code itself."""
    settings = defaults_of("docs/settings.md")

    assert {key.name for key in (*KEYS, *RAY_KEYS)} <= set(settings)
    assert server_settings(settings) == ServerSettings()
    assert ray_settings(settings) == RaySettings()
    assert tracing_settings(defaults_of("docs/metrics.md")) == TracingSettings()


def test_every_command_that_a_document_names_exists() -> None:
    """`nimbusguard …` and `make …`, in code spans and blocks; and every one is documented."""
    targets = set(re.findall(r"^([a-z][a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    named: set[str] = set()
    made_of: set[str] = set()
    for path in DOCUMENTS:
        text = path.read_text()
        spans = re.findall(r"`([^`\n]+)`", text) + re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
        for span in spans:
            named |= set(re.findall(r"(?:^|[\s/])nimbusguard ([a-z]+)", span))
            for targets_named in re.findall(r"(?:^|\n|\$ |&& )make ((?:[a-z][a-z-]+ ?)+)", span):
                made_of |= set(targets_named.split())
    named -= {"scale", "port"}  # `kubectl -n nimbusguard scale`, `… port-forward`

    assert named == set(COMMANDS)
    assert made_of == targets


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every command and subcommand, as `models publish`, with its parser."""
    found = {}
    for name, (module, _) in COMMANDS.items():
        parser = argparse.ArgumentParser(name)
        importlib.import_module(module).configure(parser)
        found[name] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= {f"{name} {sub}": own for sub, own in action.choices.items()}
    return found


def command_lines() -> Iterator[tuple[str, str]]:
    """Every line of a document that calls the command: what follows `nimbusguard`, and where."""
    for path in DOCUMENTS:
        text = path.read_text().replace("\\\n", " ")
        spans = re.findall(r"`([^`\n]+)`", text) + re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
        for span in spans:
            for line in re.findall(r"(?:^|[\s/])nimbusguard ([a-z]+ [^\n|#]*|[a-z]+)", span):
                yield line, path.name


def called_by(line: str, known: Iterable[str]) -> list[str]:
    """The command that a line calls and its subcommands, which may stand behind flags."""
    first, *others = line.split()
    names = [first, *(f"{first} {word}" for word in others)]
    return [name for name in names if name in known]


def test_every_subcommand_is_documented() -> None:
    """By its name behind the command's, as somebody would type it."""
    known = parsers()
    called = {name for line, _ in command_lines() for name in called_by(line, known)}

    assert set(known) - called == set()


def test_every_flag_of_a_documented_command_exists() -> None:
    """On the subcommand that it is written behind."""
    known = parsers()
    seen = 0
    for line, page in command_lines():
        own, _, _ = line.partition(" -- ")  # what follows is somebody else's
        flags = set(re.findall(r"(?:^|\s|\[)(--[a-z][a-z-]*)", own))
        parts = called_by(line, known)
        allowed = {flag for name in parts for flag in known[name]._option_string_actions}
        if parts:  # else a namespace: `kubectl -n nimbusguard scale`
            assert flags <= allowed, f"{page}: nimbusguard {line}"
            seen += len(flags)
    assert seen > 20


def test_every_part_of_the_benchmark_that_is_named_exists() -> None:
    """And every part is named on the page of figures or of what they mean."""
    pages = [*DOCUMENTS, ROOT / "bench/results.md"]
    named = {
        part for path in pages for part in re.findall(r"python -m bench ([a-z]+)", path.read_text())
    }

    assert named == {*PARTS, "report", "all"}


def test_every_field_of_a_log_line_is_on_the_page() -> None:
    """Those of a decision, and no other."""
    source = Path(log_decision.__code__.co_filename).read_text()
    fields = set(re.findall(r'^ {8}"(\w+)": ', source, re.MULTILINE))
    rows = section("Logs").split("The operator writes one line")[1]
    documented = {
        name
        for row in re.findall(r"^\| (`.+?) \|", rows, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }

    assert documented | {"request_id", "trace_id"} == fields
