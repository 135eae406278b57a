"""Which stage a sampled stack belongs to."""

import pytest

from bench.sampler import stack_of
from bench.stages import LOOP, stage_of, stage_times


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        ("asyncio.runners:Runner.run", LOOP),
        (
            "asyncio.runners:Runner.run;serving.http:HttpConnection.data_received",
            "receive and parse HTTP",
        ),
        (
            "serving.http:HttpConnection.data_received;serving.app:RestApp.handle;"
            "nimbusguard.contract.messages:parse_metrics",
            "check the rows",
        ),
        (
            "transformer.service:TransformerService._answer;"
            "nimbusguard.contract.normalization:normalize;numpy._core.fromnumeric:clip",
            "normalize",
        ),
        (
            "serving.app:_V1Call.succeed;serving.http:HttpRequest.respond;"
            "serving.http:HttpConnection.answer",
            "send the answer",
        ),
        ("predictor.service:PredictorService._run;predictor.loader:LoadedModel.infer", "forward"),
    ],
)
def test_the_innermost_known_function_names_the_stage(stack: str, stage: str) -> None:
    """Library code counts for the function of ours that called it."""
    assert stage_of(stack) == stage


def test_times_of_all_stages_add_up() -> None:
    """No time is lost or counted twice."""
    stacks = {"a:b": 1, "serving.batching:MicroBatcher._flush": 3}

    times = stage_times(stacks, 40.0)

    assert times == {"batching": 30.0, LOOP: 10.0}


def test_a_stack_is_written_outermost_first() -> None:
    """With the module of each function."""
    import sys

    stack = stack_of(sys._getframe())

    assert stack.endswith(f"{__name__}:test_a_stack_is_written_outermost_first")
    assert ";" in stack


def test_nothing_has_no_stack() -> None:
    """A signal may come before any frame exists."""
    assert stack_of(None) == ""
