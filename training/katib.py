"""Katib as far as we need it: an Experiment read from its YAML, and metric lines written and read.

The YAML is the only place where the search is described: what Katib does with it on a cluster,
`training.tuning` does on one machine, down to the filter that reads a trial's output.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from nimbusguard.contract.errors import InvalidRequest, NonFiniteOutput

FILTER: Final = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")
"""What Katib finds metrics by in text.

Source: Katib, pkg/metricscollector/v1beta1/common/const.go, DefaultFilter.
"""
_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_PLACEHOLDER: Final = re.compile(r"\$\{trialParameters\.(\w+)\}")


def metric_line(metrics: Mapping[str, float]) -> str:
    """Metrics as one line that the filter reads back as they are.

    Raises:
        InvalidRequest: A name that the filter would cut.
        NonFiniteOutput: A value is no finite number. The filter would take `nan` for a report
            without a value, and the trial for a success.
    """
    for name, value in metrics.items():
        if not _NAME.fullmatch(name):
            message = f"metric: expected a name of letters, digits and _, got {name!r}"
            raise InvalidRequest(message)
        if not math.isfinite(value):
            message = f"metric {name}: expected a finite number, got {value}"
            raise NonFiniteOutput(message)
    return " ".join(f"{name}={value:.6g}" for name, value in metrics.items())


def read_line(line: str, names: Iterable[str]) -> Iterator[tuple[str, float]]:
    """The named metrics of a line of output, in their order; an empty value is none."""
    wanted = set(names)
    for match in FILTER.finditer(line):
        if match[1] in wanted and match[2]:
            yield match[1], float(match[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One dimension of the search."""

    name: str
    kind: str
    """`double`, `int`, `discrete` or `categorical`."""
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_log: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What the YAML asks for."""

    name: str
    is_minimized: bool
    goal: float | None
    objective: str
    additional: tuple[str, ...]
    algorithm: str
    algorithm_settings: Mapping[str, str]
    early_stopping: Mapping[str, str] | None
    """Settings of `medianstop`; None stops no trial early."""
    max_trials: int
    parallel_trials: int
    max_failed: int
    parameters: tuple[Parameter, ...]
    command: tuple[str, ...]
    """Of the trial's container, with `${trialParameters.…}` in it."""
    references: Mapping[str, str]
    """Trial parameter to the name of the dimension that fills it."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that a trial reports."""
        return (self.objective, *self.additional)

    def command_of(self, values: Mapping[str, str]) -> list[str]:
        """The command of a trial with these values, as Katib's template gives it."""

        def filled(match: re.Match[str]) -> str:
            return values[self.references[match[1]]]

        return [_PLACEHOLDER.sub(filled, part) for part in self.command]


def read_experiment(path: Path) -> tuple[Experiment, dict[str, Any]]:
    """An Experiment, typed and as it stands.

    Raises:
        InvalidRequest: It is none, or asks for what only a cluster can do; the message names the
            field.
    """
    document = yaml.safe_load(path.read_text())
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind != "Experiment":
        message = f"{path}: expected kind Experiment, got {kind!r}"
        raise InvalidRequest(message)
    try:
        return experiment_of(document), document
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        message = f"{path}: expected a Katib v1beta1 Experiment, got {error!r}"
        raise InvalidRequest(message) from error


def experiment_of(document: Mapping[str, Any]) -> Experiment:
    """A parsed Experiment as a typed value; raises what a missing field raises."""
    spec = document["spec"]
    objective, template = spec["objective"], spec["trialTemplate"]
    stopping = spec.get("earlyStopping")
    if stopping and stopping["algorithmName"] != "medianstop":
        message = f"earlyStopping: expected medianstop, got {stopping['algorithmName']!r}"
        raise InvalidRequest(message)
    containers = template["trialSpec"]["spec"]["template"]["spec"]["containers"]
    named = template["primaryContainerName"]
    primary = next(each for each in containers if each["name"] == named)
    return Experiment(
        name=document["metadata"]["name"],
        is_minimized=objective["type"] == "minimize",
        goal=objective.get("goal"),
        objective=objective["objectiveMetricName"],
        additional=tuple(objective.get("additionalMetricNames", ())),
        algorithm=spec["algorithm"]["algorithmName"],
        algorithm_settings=_settings(spec["algorithm"]),
        early_stopping=_settings(stopping) if stopping else None,
        max_trials=int(spec["maxTrialCount"]),
        parallel_trials=int(spec["parallelTrialCount"]),
        max_failed=int(spec["maxFailedTrialCount"]),
        parameters=tuple(_parameter(each) for each in spec["parameters"]),
        command=(*primary["command"], *primary.get("args", ())),
        references={each["name"]: each["reference"] for each in template["trialParameters"]},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the environment sets in place of what an Experiment says; None leaves it."""

    max_trials: int | None = None
    parallel_trials: int | None = None
    learning_rate_min: float | None = None
    learning_rate_max: float | None = None

    def applied(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A changed copy of a parsed Experiment."""
        changed: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dict(document)))
        spec = changed["spec"]
        _set(spec, "maxTrialCount", self.max_trials)
        _set(spec, "parallelTrialCount", self.parallel_trials)
        for parameter in spec["parameters"]:
            if parameter["name"] == "learning_rate":
                # Katib's bounds are texts.
                space = parameter["feasibleSpace"]
                _set(space, "min", self.learning_rate_min and str(self.learning_rate_min))
                _set(space, "max", self.learning_rate_max and str(self.learning_rate_max))
        return changed


def _set(document: dict[str, Any], name: str, value: object) -> None:
    if value is not None:
        document[name] = value


def _settings(algorithm: Mapping[str, Any]) -> dict[str, str]:
    return {each["name"]: str(each["value"]) for each in algorithm.get("algorithmSettings", ())}


def _parameter(document: Mapping[str, Any]) -> Parameter:
    space, kind = document["feasibleSpace"], document["parameterType"]
    if kind in ("categorical", "discrete"):
        return Parameter(
            name=document["name"], kind=kind, choices=tuple(str(each) for each in space["list"])
        )
    if kind not in ("double", "int"):
        message = f"parameter {document['name']}: expected a known type, got {kind!r}"
        raise InvalidRequest(message)
    distribution = space.get("distribution", "uniform")
    if distribution not in ("uniform", "logUniform"):
        message = (
            f"parameter {document['name']}: expected uniform or logUniform, got {distribution}"
        )
        raise InvalidRequest(message)
    return Parameter(
        name=document["name"],
        kind=kind,
        low=float(space["min"]),
        high=float(space["max"]),
        step=float(space["step"]) if "step" in space else None,
        is_log=distribution == "logUniform",
    )
