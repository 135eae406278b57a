"""Which stage of a request a sampled stack belongs to. Pure.

A stack is read from the innermost frame outwards, and the first function that the table knows
names the stage; so what NumPy does for `normalize` counts for `normalize`. Time in the kernel and
in the event loop shows up at the next Python function to run, which is why receiving and parsing
are one stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

LOOP: Final = "event loop"

# Longer prefixes before shorter ones.
_STAGES: Final[tuple[tuple[str, str], ...]] = (
    ("serving.http:HttpConnection.answer", "send the answer"),
    ("serving.http:HttpRequest.respond", "send the answer"),
    ("serving.http", "receive and parse HTTP"),
    ("serving.app:_loads", "parse JSON"),
    ("serving.app:RestApp.observe", "metrics"),
    ("serving.app:_V1Call.succeed", "write JSON"),
    ("serving.app:_V2Call.succeed", "write JSON"),
    ("serving.app", "route"),
    ("serving.metrics", "metrics"),
    ("serving.distributions", "metrics"),
    ("serving.tracing", "traces"),
    ("nimbusguard.telemetry", "traces"),
    ("serving.batching", "batching"),
    ("serving.calls", "batching"),
    ("nimbusguard.contract.messages", "check the rows"),
    ("nimbusguard.contract.tensors", "check the rows"),
    ("nimbusguard.contract.normalization", "normalize"),
    ("nimbusguard.contract.actions", "choose"),
    ("nimbusguard.policy", "choose"),
    ("transformer.preprocess", "normalize"),
    ("transformer.postprocess:decide", "choose"),
    ("transformer.postprocess", "write JSON"),
    ("transformer.hop", "hop to the predictor"),
    ("transformer.service", "batching"),
    ("predictor.loader", "forward"),
    ("predictor.service:_array_of", "check the rows"),
    ("predictor.service:_is_state", "check the rows"),
    ("predictor.service", "batching"),
)


def stage_of(stack: str) -> str:
    """The stage of one stack: `module:function` of each frame, outermost first."""
    for frame in reversed(stack.split(";")):
        for prefix, stage in _STAGES:
            if frame.startswith(prefix):
                return stage
    return LOOP


def stage_times(stacks: Mapping[str, int], total_us: float) -> dict[str, float]:
    """Share out a time over the stages by their samples, largest first."""
    counts: Counter[str] = Counter()
    for stack, count in stacks.items():
        counts[stage_of(stack)] += count
    samples = counts.total()
    return {stage: count / samples * total_us for stage, count in counts.most_common()}
