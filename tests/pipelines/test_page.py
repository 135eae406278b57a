"""docs/pipelines.md says what the code does."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import yaml

from nimbusguard.cli import COMMANDS
from nimbusguard.commands import pipeline
from nimbusguard.contract.features import NAMES
from tests.live.processes import ROOT
from training import prepare, telemetry
from training.dataset import SAMPLES
from training.objective import DEFAULT_OBJECTIVE
from training.steps import Budget, gate_settings

PAGE = (ROOT / "docs/pipelines.md").read_text()


def first_cells(heading: str) -> set[str]:
    """The names in the first column of the tables below a heading."""
    section = PAGE.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    cells = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([a-z_]+)", cell)}


def test_every_parameter_of_the_pipeline_is_in_its_table() -> None:
    """And no other."""
    text = (ROOT / "manifests/pipelines/dqn-training-pipeline.yaml").read_text()
    compiled = next(iter(yaml.safe_load_all(text)))

    assert first_cells("### Parameters") == set(compiled["root"]["inputDefinitions"]["parameters"])


def test_every_metric_that_is_pushed_is_in_its_table() -> None:
    """Beside the one that the services count themselves."""
    totals = {telemetry.PIPELINE_RUNS, telemetry.EXPERIMENTS}
    pushed = {f"{name}_total" if name in totals else name for name in telemetry.HELP}

    assert first_cells("## Figures") == pushed | {"nimbusguard_model_serving_requests_total"}


def test_every_make_target_and_command_on_the_page_exists() -> None:
    """At the beginning of a line of shell, or quoted in a sentence."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", PAGE, re.MULTILINE))
    commands = set(re.findall(r"(?:^|`)nimbusguard ([a-z]+)", PAGE, re.MULTILINE))

    assert targets >= {"e2e", "kubeflow-install", "kubeflow-experiments-best"}
    assert {
        name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)
    } == set()
    assert {"collect", "pipeline", "tune"} <= commands <= COMMANDS.keys()


def test_the_small_run_on_the_page_is_one_that_the_command_takes() -> None:
    """Its parameters, the learner's settings and the gate's limits, by name and kind."""
    block = PAGE.split("The same way in two minutes", 1)[1].split("```")[1].replace("\\\n", " ")
    (line,) = re.findall(r"^nimbusguard pipeline (.+)$", block, re.MULTILINE)
    parser = argparse.ArgumentParser()
    pipeline.configure(parser)
    args = parser.parse_args([*shlex.split(line), "--prometheus", "http://127.0.0.1:9"])
    assert args.config == Path("runs/small.json")
    args.config = None

    parameters = pipeline.parameters_of(args)

    assert Budget(settings=parameters["settings"]).learner().epochs == 6
    assert gate_settings(parameters["gate_limits"], DEFAULT_OBJECTIVE).seeds == 1
    assert parameters["families"] == ["hpa"]


def test_the_rules_numbers_are_on_the_page() -> None:
    """A number that changes must change its sentence."""
    low, high = (1000 * each for each in prepare.SERVICE_TIME_RANGE_S)
    first, last = prepare.STARTUP_RANGE_S

    assert (prepare.MIN_USABLE_RATIO, prepare.MIN_SEGMENT_S) == (0.5, 2 * 3600)
    assert "if less than half of its steps are usable" in PAGE
    assert "Two hours without a gap" in PAGE
    assert f"({low:g} to {high:g} ms, {first:g} to {last:g} s)" in PAGE.replace("\n", " ")


def test_the_columns_of_the_samples_are_on_the_page() -> None:
    """In their order, the features as one."""
    others = [name for name in SAMPLES.names if name not in NAMES]

    assert others == ["time", "namespace", "workload", "counter_resets", "startup_s"]
    assert "time, namespace, workload, eleven features, counter_resets, startup_s" in PAGE
