"""The training pipeline of Kubeflow: wiring only. What a step does is in `training.steps`.

    open run → collect → prepare → train (each seed) → evaluate → gate ─ passed → publish → canary
                                                                          (whatever happens) → close

Every step is a lightweight component of the training image, so that `kfp.local` can run the very
same pipeline as processes of one machine. A component's source is copied into the compiled
pipeline: its body stands alone, imports what it uses, and calls one function. The name of the
function is the name of the step.
"""

# Annotations are read by the compiler and must be types, not strings: no `annotations` import here.

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kfp import compiler, dsl

IMAGE: Final = "nimbusguard/training:0.1.0"
PIPELINE_NAME: Final = "nimbusguard-dqn-training"
COMPILED: Final = "manifests/pipelines/dqn-training-pipeline.yaml"
"""Where the compiled pipeline stands in the repository; a test compares."""


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


_OPEN_RUN = _component(open_run)
_COLLECT = _component(collect)
_PREPARE = _component(prepare)
_TRAIN = _component(train)
_EVALUATE = _component(evaluate)
_GATE = _component(gate)
_PUBLISH = _component(publish)
_START_CANARY = _component(start_canary)
_CLOSE_RUN = _component(close_run)


def _sized(task: Any, *, cpu: str, memory: str, retries: int = 2) -> Any:
    """Requests and limits, and retries for what a cluster may do to a pod."""
    task.set_cpu_request(cpu).set_cpu_limit(cpu)
    task.set_memory_request(memory).set_memory_limit(memory)
    return task.set_retry(num_retries=retries, backoff_duration="10s", backoff_factor=2.0)


def dqn_training(
    prometheus: str,
    store: str,
    traces: str,
    run_id: str = "",
    as_of: str = "",
    hours: float = 24.0,
    workloads: list = [],  # type: ignore[type-arg]  # noqa: B006 - the compiler reads it once
    experience: str = "",
    data_rule: str = "require",
    seeds: list = [1, 2, 3, 4, 5],  # type: ignore[type-arg]  # noqa: B006 - as above
    settings: dict = {},  # type: ignore[type-arg]  # noqa: B006 - as above
    calibration_decisions: int = 0,
    evaluation_decisions: int = 0,
    families: list = ["hpa", "hpa-prometheus", "rps", "kpa", "square-root", "static"],  # type: ignore[type-arg]  # noqa: B006 - as above
    gate_limits: dict = {},  # type: ignore[type-arg]  # noqa: B006 - as above
    canary: str = "alias",
    canary_percent: int = 5,
    model_registry: str = "",
    pushgateway: str = "",
    work: str = "",
) -> None:
    """From metrics in Prometheus to a gated, published model on trial; docs/pipelines.md."""
    closing = _sized(_CLOSE_RUN(pushgateway=pushgateway), cpu="100m", memory="512Mi")
    closing.set_caching_options(False)
    with dsl.ExitHandler(closing, name="run"):
        # Now is another moment in every run: what stands on it is cached by the moment itself.
        opened = _sized(_OPEN_RUN(as_of=as_of), cpu="100m", memory="512Mi")
        opened.set_caching_options(False)
        collected = _sized(
            _COLLECT(
                as_of=opened.output,
                prometheus=prometheus,
                hours=hours,
                workloads=workloads,
                experience=experience,
                work=work,
            ),
            cpu="500m",
            memory="2Gi",
            retries=4,
        )
        usable = _sized(
            _PREPARE(data=collected.outputs["data"], traces=traces, data_rule=data_rule),
            cpu="500m",
            memory="2Gi",
        )
        prepared = usable.outputs["prepared"]
        with dsl.ParallelFor(items=seeds, name="seeds") as seed:
            trained = _sized(
                _TRAIN(
                    prepared=prepared,
                    seed=seed,
                    settings=settings,
                    calibration_decisions=calibration_decisions,
                    work=work,
                    pushgateway=pushgateway,
                ),
                cpu="1",
                memory="2Gi",
            )
        judged = _sized(
            _EVALUATE(
                prepared=prepared,
                models=dsl.Collected(trained.outputs["model"]),
                settings=settings,
                calibration_decisions=calibration_decisions,
                evaluation_decisions=evaluation_decisions,
                families=families,
                pushgateway=pushgateway,
            ),
            cpu="1",
            memory="4Gi",
        )
        held = _sized(
            _GATE(candidate=judged.outputs["candidate"], gate_limits=gate_limits),
            cpu="1",
            memory="2Gi",
        )
        with dsl.If(held.outputs["Output"] == "passed", name="gate-passed"):
            published = _sized(
                _PUBLISH(
                    candidate=judged.outputs["candidate"],
                    verdict=held.outputs["verdict"],
                    store=store,
                    run_id=run_id,
                    as_of=opened.output,
                    model_registry=model_registry,
                    work=work,
                ),
                cpu="1",
                memory="2Gi",
            )
            _sized(
                _START_CANARY(
                    version=published.output,
                    store=store,
                    canary=canary,
                    canary_percent=canary_percent,
                ),
                cpu="100m",
                memory="512Mi",
            )


def training_pipeline() -> Any:
    """The pipeline as KFP has it."""
    return dsl.pipeline(dqn_training, name=PIPELINE_NAME, display_name="NimbusGuard DQN training")


def compile_to(path: Path) -> None:
    """Write the compiled pipeline; equal code gives an equal file."""
    compiler.Compiler().compile(training_pipeline(), str(path))
