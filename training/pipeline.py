"""The training pipeline of Kubeflow: wiring only. What a step does is in `training.steps`.

    open run → collect → prepare → train (each seed) → evaluate → gate ─ passed → publish → canary
                                                                          (whatever happens) → close

Every step is a lightweight component of the training image (`training.pipeline_components`), so
that `kfp.local` can run the very same pipeline as processes of one machine.
"""

# Annotations are read by the compiler and must be types, not strings: no `annotations` import here.

from pathlib import Path
from typing import Any, Final

from kfp import compiler, dsl

from training.pipeline_components import (
    CLOSE_RUN,
    COLLECT,
    EVALUATE,
    GATE,
    OPEN_RUN,
    PREPARE,
    PUBLISH,
    START_CANARY,
    TRAIN,
)

PIPELINE_NAME: Final = "nimbusguard-dqn-training"
COMPILED: Final = "manifests/pipelines/dqn-training-pipeline.yaml"
"""Where the compiled pipeline stands in the repository; a test compares."""


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
    closing = _sized(CLOSE_RUN(pushgateway=pushgateway), cpu="100m", memory="512Mi")
    closing.set_caching_options(False)
    with dsl.ExitHandler(closing, name="run"):
        # Now is another moment in every run: what stands on it is cached by the moment itself.
        opened = _sized(OPEN_RUN(as_of=as_of), cpu="100m", memory="512Mi")
        opened.set_caching_options(False)
        collected = _sized(
            COLLECT(
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
            PREPARE(data=collected.outputs["data"], traces=traces, data_rule=data_rule),
            cpu="500m",
            memory="2Gi",
        )
        prepared = usable.outputs["prepared"]
        with dsl.ParallelFor(items=seeds, name="seeds") as seed:
            trained = _sized(
                TRAIN(
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
            EVALUATE(
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
            GATE(candidate=judged.outputs["candidate"], gate_limits=gate_limits),
            cpu="1",
            memory="2Gi",
        )
        with dsl.If(held.outputs["Output"] == "passed", name="gate-passed"):
            published = _sized(
                PUBLISH(
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
                START_CANARY(
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
