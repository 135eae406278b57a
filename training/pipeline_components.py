"""The steps of the pipeline as lightweight components of the training image.

A component's source is copied into the compiled pipeline: its body stands alone, imports what it
uses, and calls one function of `training.components` or `training.steps`. The name of the function
is the name of the step.
"""

# Annotations are read by the compiler and must be types, not strings: no `annotations` import here.

from collections.abc import Callable
from typing import Any, Final

from kfp import dsl

IMAGE: Final = "nimbusguard/training:0.1.0"


def open_run(as_of: str) -> str:
    """The moment that the data set ends with: as given, or now."""
    import time

    return as_of or str(int(time.time()))  # noqa: TID251 - the edge, where the clock is read


def collect(
    as_of: str,
    prometheus: str,
    hours: float,
    workloads: list,  # type: ignore[type-arg]
    experience: str,
    work: str,
    data: dsl.Output[dsl.Dataset],
) -> None:
    """Metrics of the last hours as a data set."""
    from training.components import run_collect

    manifest = run_collect(
        data.path,
        as_of=as_of,
        prometheus=prometheus,
        hours=hours,
        workloads=workloads,
        experience=experience,
        work=work,
    )
    data.metadata["sha256"] = manifest["sha256"]
    data.metadata["rows"] = manifest["samples"]["rows"]


def prepare(
    data: dsl.Input[dsl.Dataset],
    traces: str,
    data_rule: str,
    prepared: dsl.Output[dsl.Dataset],
) -> None:
    """What may be learnt from, by the written rule."""
    from pathlib import Path

    from training.steps import prepare_data

    report = prepare_data(Path(data.path), Path(prepared.path), traces=traces, rule=data_rule)
    prepared.metadata["usable"] = report["usable"]
    prepared.metadata["windows"] = len(report["windows"])


def train(
    prepared: dsl.Input[dsl.Dataset],
    seed: int,
    settings: dict,  # type: ignore[type-arg]
    calibration_decisions: int,
    work: str,
    pushgateway: str,
    model: dsl.Output[dsl.Model],
) -> None:
    """One network, trained and calibrated."""
    from training.components import run_train

    seconds = run_train(
        prepared.path,
        model.path,
        seed=seed,
        settings=settings,
        calibration_decisions=calibration_decisions,
        work=work,
        pushgateway=pushgateway,
    )
    model.metadata["seed"] = seed
    model.metadata["training_seconds"] = seconds


def evaluate(
    prepared: dsl.Input[dsl.Dataset],
    models: dsl.Input[list[dsl.Model]],
    settings: dict,  # type: ignore[type-arg]
    calibration_decisions: int,
    evaluation_decisions: int,
    families: list,  # type: ignore[type-arg]
    pushgateway: str,
    candidate: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """All seeds and the baselines on validation traffic; the best seed is the candidate."""
    from training.components import run_evaluate

    figures = run_evaluate(
        prepared.path,
        {int(model.metadata["seed"]): model.path for model in models},
        candidate.path,
        settings=settings,
        calibration_decisions=calibration_decisions,
        evaluation_decisions=evaluation_decisions,
        families=families,
        pushgateway=pushgateway,
        report=report.path,
        metrics=metrics.path,
    )
    for name, value in figures.items():
        metrics.log_metric(name, float(value))


def gate(
    candidate: dsl.Input[dsl.Model],
    gate_limits: dict,  # type: ignore[type-arg]
    verdict: dsl.Output[dsl.Artifact],
) -> str:
    """`passed` or `refused`."""
    from pathlib import Path

    from training.steps import judge_gate

    passed = judge_gate(Path(candidate.path), Path(verdict.path), gate_limits)
    return "passed" if passed else "refused"


def publish(
    candidate: dsl.Input[dsl.Model],
    verdict: dsl.Input[dsl.Artifact],
    store: str,
    run_id: str,
    as_of: str,
    model_registry: str,
    work: str,
) -> str:
    """The version that this run published, now or before it was killed."""
    from training.components import run_publish

    return str(
        run_publish(
            candidate.path,
            verdict.path,
            store=store,
            run_id=run_id or f"as-of-{as_of}",
            model_registry=model_registry,
            work=work,
        )
    )


def start_canary(version: str, store: str, canary: str, canary_percent: int) -> str:
    """The version on trial: the store's alias, and a share of the requests if asked for."""
    from training.components import run_canary

    return str(run_canary(version, store=store, canary=canary, percent=canary_percent))


def close_run(pushgateway: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Count the run, however it ended."""
    from training.components import run_close

    run_close(status.state, pushgateway=pushgateway)


def _component(function: Callable[..., Any]) -> Any:
    """A step in the training image, which holds everything it imports."""
    return dsl.component(function, base_image=IMAGE, install_kfp_package=False)


OPEN_RUN = _component(open_run)
COLLECT = _component(collect)
PREPARE = _component(prepare)
TRAIN = _component(train)
EVALUATE = _component(evaluate)
GATE = _component(gate)
PUBLISH = _component(publish)
START_CANARY = _component(start_canary)
CLOSE_RUN = _component(close_run)
