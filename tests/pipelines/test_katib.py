"""The Experiment and the metric lines, held against Katib's own filter and schema."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.errors import InvalidRequest, NonFiniteOutput
from nimbusguard.settings import Settings
from tests.live.processes import ROOT
from tests.manifests.rendering import MANIFESTS, render
from tests.manifests.schemas import custom_validator, problems
from tests.training.test_evaluate import judgement
from training.calibrate import Calibration
from training.edges import Edges
from training.katib import (
    FILTER,
    Experiment,
    Overrides,
    experiment_of,
    metric_line,
    read_experiment,
    read_line,
)
from training.settings import TrainingSettings
from training.study import distribution_of
from training.trial import cost_at_budget, settings_of
from training.tuning import DEFAULTS

FILE = ROOT / "manifests/katib/experiment.yaml"
KATIB_FILTER = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"
"""pkg/metricscollector/v1beta1/common/const.go, line 47, at 33c8ff4e."""
NAMES = st.from_regex(r"[A-Za-z0-9_]+", fullmatch=True)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


@pytest.fixture
def experiment() -> Experiment:
    return read_experiment(FILE)[0]


def test_the_filter_is_katibs() -> None:
    """Character for character."""
    assert FILTER.pattern == KATIB_FILTER


@given(st.dictionaries(NAMES, NUMBERS, min_size=1, max_size=5))
def test_what_a_trial_prints_is_what_katib_reads(metrics: dict[str, float]) -> None:
    """Every name whole, every value to six digits, none empty."""
    found = [(match[1], match[2]) for match in re.finditer(KATIB_FILTER, metric_line(metrics))]

    assert [name for name, _ in found] == list(metrics)
    for (_, text), value in zip(found, metrics.values(), strict=True):
        assert text
        assert float(text) == pytest.approx(value, rel=1e-5, abs=1e-300)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_line_is_made_of_what_is_no_number(value: float) -> None:
    """Katib would take `nan` for a report without a value, and the trial for a success."""
    assert re.findall(KATIB_FILTER, "cost=nan")[0][:2] == ("cost", "")

    with pytest.raises(NonFiniteOutput, match="cost: expected a finite number"):
        metric_line({"cost": value})


@pytest.mark.parametrize("name", ["eval/cost", "eval.cost", "co st", ""])
def test_no_name_is_one_that_the_filter_would_cut(name: str) -> None:
    """`eval/cost=1` would be recorded as `cost`."""
    with pytest.raises(InvalidRequest, match="letters, digits and _"):
        metric_line({name: 1.0})


def test_an_empty_value_is_no_report() -> None:
    """What a crashing library may print is not mistaken for a figure."""
    assert list(read_line("cost=nan cost=0.5 other=1", ["cost"])) == [("cost", 0.5)]


def test_the_experiment_is_one_that_the_api_server_takes_whole() -> None:
    """With its namespace and the volume of the traces."""
    documents = render(MANIFESTS / "katib")

    assert [document["kind"] for document in documents] == [
        "Namespace",
        "PersistentVolumeClaim",
        "Experiment",
    ]
    assert [found for document in documents[:2] if (found := problems(document))] == []
    # The schema is of what lies beside kind and metadata.
    validator = custom_validator("Experiment", "kubeflow.org/v1beta1")
    errors = validator.iter_errors({"spec": documents[2]["spec"]})
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_the_experiment_has_the_names_and_the_defaults_that_users_know(
    document: dict[str, Any], experiment: Experiment
) -> None:
    """The YAML is equal to what the settings say when nothing is set."""
    rate = next(each for each in experiment.parameters if each.name == "learning_rate")
    settings = Settings()

    assert document["metadata"] == {
        "name": "nimbusguard-dqn-hyperparameter-tuning",
        "namespace": "nimbusguard-experiments",
    }
    assert experiment.max_trials == settings.katib_max_trial_count == 20
    assert experiment.parallel_trials == settings.katib_parallel_trial_count == 3
    assert (rate.low, rate.high) == (settings.learning_rate_min, settings.learning_rate_max)
    assert rate.is_log


def test_every_trial_parameter_is_a_flag_of_the_trial(experiment: Experiment) -> None:
    """The command with values filled in parses, and sets what the search is about."""
    from training.objective import DEFAULT_OBJECTIVE
    from training.trial import _parser, plan_of

    values = {
        "learning_rate": "0.001", "discount": "0.97", "exploration": "0.3", "batch_size": "128",
        "hidden_width": "32", "n_step": "20",
    }  # fmt: skip
    command = experiment.command_of(values)
    plan = plan_of(_parser().parse_args(command[3:]), ROOT, DEFAULT_OBJECTIVE)

    assert command[:3] == ["python", "-m", "training.trial"]
    assert plan.settings == TrainingSettings(
        learning_rate=0.001, discount=0.97, branch_curiosity=0.3, batch_size=128, hidden=(32, 32),
        branch_steps=20,
    )  # fmt: skip


def test_the_first_trial_is_the_learners_own_settings(experiment: Experiment) -> None:
    """And lies inside the space of the search."""
    found = settings_of(DEFAULTS)
    default = TrainingSettings()

    assert {each.name for each in experiment.parameters} == DEFAULTS.keys()
    for name, value in found.items():
        own = getattr(default, name)
        assert (list(own) if isinstance(own, tuple) else own) == value, name
    for parameter in experiment.parameters:
        space, text = distribution_of(parameter), DEFAULTS[parameter.name]
        value = text if parameter.choices else float(text)
        assert space._contains(space.to_internal_repr(value)), parameter.name


def test_what_the_environment_sets_replaces_what_the_experiment_says(
    document: dict[str, Any],
) -> None:
    """And only that; the document itself is left alone."""
    given_ = Overrides(max_trials=5, learning_rate_max=0.001)
    changed = experiment_of(given_.applied(document))

    assert (changed.max_trials, changed.parallel_trials) == (5, 3)
    assert (changed.parameters[0].low, changed.parameters[0].high) == (1e-5, 1e-3)
    assert document["spec"]["maxTrialCount"] == 20
    assert Overrides().applied(document) == document


def test_a_trial_that_fails_is_not_tried_again_by_kubernetes(document: dict[str, Any]) -> None:
    """A second attempt would be reported as the first one's success."""
    job = document["spec"]["trialTemplate"]["trialSpec"]["spec"]

    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert "Failed" in document["spec"]["trialTemplate"]["failureCondition"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Job"}, "expected kind Experiment"),
        ({"spec": {}}, "expected a Katib v1beta1 Experiment"),
    ],
)
def test_what_is_no_experiment_is_refused(
    tmp_path: Any, document: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    """With the name of the file."""
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(document | change))

    with pytest.raises(InvalidRequest, match=message):
        read_experiment(path)


def calibration(*figures: tuple[float, float]) -> Calibration:
    """A network that costs and violates so at each price."""
    family = tuple(judgement([cost], [violation], f"dqn:{cost}") for cost, violation in figures)
    return Calibration(multiplier=1.0, chosen=family[0], family=family, edges=Edges())


def test_the_objective_is_the_cost_where_the_budget_is_kept() -> None:
    """Read off the network's own frontier, over the HPA's cost."""
    found = calibration((9.0, 0.004), (8.0, 0.006))

    assert cost_at_budget(found, 10.0, 0.005) == pytest.approx(0.85)


def test_the_objective_of_a_network_that_never_keeps_the_budget_is_finite_and_worse() -> None:
    """The farther from the budget, the worse."""
    near = cost_at_budget(calibration((9.0, 0.01)), 10.0, 0.005)
    far = cost_at_budget(calibration((9.0, 0.10)), 10.0, 0.005)

    assert (near, far) == (pytest.approx(1.8), pytest.approx(18.0))
