"""Traces through the running system, as a collector receives them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

from tests.service.processes import MODEL, ROOT, Server, end, running, until
from tests.standin.process import environment_of

pytestmark = pytest.mark.service
ROW = [0.93, 0.55, 120000, 85, 4, 0.31, 0.002, 12, 0.2, 0.6, 0.5]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
HOPS = ("v2", "grpc-v2")
ROUTES = ("v1_predict", "v2_infer", "grpc_infer")


class Spans:
    """What the collector wrote down."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[dict[str, Any]]:
        text = self._path.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def of(self, trace_id: str) -> list[dict[str, Any]]:
        return [span for span in self.all() if span["trace_id"] == trace_id]

    def complete(self, trace_id: str, names: set[str]) -> list[dict[str, Any]]:
        """The spans of a trace, as soon as all of these names are there."""

        def found() -> list[dict[str, Any]] | None:
            spans = self.of(trace_id)
            return spans if names <= {path_of(span, spans) for span in spans} else None

        return until(found, f"spans {sorted(names)}; there are {self._seen(trace_id)}", 30)

    def _seen(self, trace_id: str) -> list[str]:
        spans = self.of(trace_id)
        return sorted(path_of(span, spans) for span in spans)


def path_of(span: dict[str, Any], spans: list[dict[str, Any]]) -> str:
    """The names of a span and of all that it hangs below: `a/b/c`."""
    above = next((one for one in spans if one["span_id"] == span["parent_id"]), None)
    name = f"{span['service'].removeprefix('nimbusguard-')}:{span['name']}"
    return f"{path_of(above, spans)}/{name}" if above else name


@contextmanager
def child(*command: str, environ: dict[str, str] | None = None) -> Iterator[tuple[Any, str]]:
    """A process that says one line when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode().strip()
        assert line, f"{command} ended without a word"
        yield process, line
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Spans, dict[str, str]]]:
    """A collector, and the environment that leads to it."""
    path = tmp_path_factory.mktemp("otlp") / "spans.jsonl"
    with child("tests.service.otlp_receiver", str(path)) as (_, port):
        yield (
            Spans(path),
            {
                "NIMBUSGUARD_TRACING_ENDPOINT": f"http://127.0.0.1:{port}",
                "NIMBUSGUARD_TRACING_RATIO": "0",
            },
        )


@pytest.fixture(scope="module", params=HOPS)
def transformer(
    request: pytest.FixtureRequest,
    spans: tuple[Spans, dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A transformer with one of the two hops, and its predictor."""
    folder, environ = tmp_path_factory.mktemp(request.param), spans[1]
    with ExitStack() as stack:
        predictor = stack.enter_context(
            running("predictor", folder / "predictor.log", environ=environ)
        )
        port = predictor.http_port if request.param == "v2" else predictor.grpc_port
        yield stack.enter_context(
            running(
                "transformer",
                folder / "transformer.log",
                f"--predictor_host=127.0.0.1:{port}",
                f"--predictor_protocol={request.param}",
                environ=environ,
            )
        )


def hop_of(transformer: Server) -> str:
    """What the predictor calls the route that this transformer's hop takes."""
    return "grpc_infer" if "grpc-v2" in str(transformer.process.args) else "v2_infer"


def paths_below(top: str, hop: str) -> set[str]:
    """Every span below a request to the transformer."""
    batch = f"{top}/transformer:batch"
    served = f"{batch}/transformer:predict/predictor:{hop}"
    return {
        top,
        batch,
        f"{batch}/transformer:predict",
        served,
        f"{served}/predictor:batch",
        f"{served}/predictor:batch/predictor:forward",
    }


def test_one_trace_holds_the_operator_the_transformer_and_the_predictor(
    spans: tuple[Spans, dict[str, str]], transformer: Server
) -> None:
    """From the evaluation to the forward pass, over either hop."""
    collected, environ = spans
    seen = {span["trace_id"] for span in collected.all()}
    with child("tests.standin", "1") as (_, line):
        operator = environment_of(line) | environ
        operator |= {"KSERVE_ENDPOINT": transformer.url, "NIMBUSGUARD_TRACING_RATIO": "1"}
        with child("autoscaler", environ=operator):

            def evaluated() -> dict[str, Any] | None:
                return next(
                    (
                        span
                        for span in collected.all()
                        if span["name"] == "evaluate" and span["trace_id"] not in seen
                    ),
                    None,
                )

            root = until(evaluated, "a trace of an evaluation")
    steps = {f"operator:evaluate/operator:{name}" for name in ("look", "decide", "apply", "record")}
    ask = "operator:evaluate/operator:decide/operator:ask"
    below = paths_below(f"{ask}/transformer:v1_predict", hop_of(transformer))

    trace = collected.complete(root["trace_id"], {"operator:evaluate", ask} | steps | below)

    assert {path_of(span, trace) for span in trace} == {"operator:evaluate", ask} | steps | below
    ids = {span["attributes"].get("nimbusguard.request_id") for span in trace}
    assert root["attributes"]["nimbusguard.request_id"] in ids
    assert all(span["start_ns"] <= span["end_ns"] for span in trace)


def test_a_caller_over_grpc_finds_its_trace_continued(
    spans: tuple[Spans, dict[str, str]], transformer: Server
) -> None:
    """W3C context in the metadata, state included."""
    trace_id = TRACE[:-1] + str(HOPS.index("v2" if hop_of(transformer) == "v2_infer" else HOPS[1]))
    request = pb.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="raw_metrics", datatype="FP64", shape=[1, 11])
    request.raw_input_contents.append(np.array(ROW, dtype=np.float64).tobytes())
    metadata = [("traceparent", f"00-{trace_id}-{PARENT}-01"), ("tracestate", "shop=1")]
    with grpc.insecure_channel(transformer.grpc_target) as channel:
        pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=metadata)
    below = paths_below("transformer:grpc_infer", hop_of(transformer))

    trace = spans[0].complete(trace_id, below)

    assert {path_of(span, trace) for span in trace} == below
    top = next(span for span in trace if span["parent_id"] == PARENT)
    assert (top["name"], top["state"]) == ("grpc_infer", "shop=1")


def test_an_explanation_is_traced_to_the_predictor(
    spans: tuple[Spans, dict[str, str]], transformer: Server
) -> None:
    """The request, the hop, the predictor's route for explanations, and the work itself."""
    is_rest = hop_of(transformer) == "v2_infer"
    trace_id = "a" * 31 + str(int(is_rest))
    headers = {"traceparent": f"00-{trace_id}-{PARENT}-01"}
    url = f"{transformer.url}/v1/models/{MODEL}:explain"
    top = "transformer:v1_explain"
    served = f"{top}/transformer:explain/predictor:{'v2_explain' if is_rest else 'grpc_explain'}"
    paths = {top, f"{top}/transformer:explain", served, f"{served}/predictor:explain"}

    with httpx.Client(trust_env=False) as client:
        assert client.post(url, json={"instances": [ROW]}, headers=headers).status_code == 200
        unasked = {"traceparent": f"00-{trace_id[::-1]}-{PARENT}-00"}
        assert client.post(url, json={"instances": [ROW]}, headers=unasked).status_code == 200

    trace = spans[0].complete(trace_id, paths)
    assert {path_of(span, trace) for span in trace} == paths
    assert not spans[0].of(trace_id[::-1])


def test_a_batch_is_linked_with_every_request_in_it(
    spans: tuple[Spans, dict[str, str]], transformer: Server
) -> None:
    """It hangs below the first of them; it points to the others, and they to it."""
    number = 1 + HOPS.index("v2" if hop_of(transformer) == "v2_infer" else HOPS[1])

    async def ask_together() -> None:
        url = f"{transformer.url}/v1/models/{MODEL}:predict"
        body = json.dumps({"instances": [ROW]})
        async with httpx.AsyncClient(trust_env=False) as client:
            answers = await asyncio.gather(
                *(
                    client.post(
                        url,
                        content=body,
                        headers={"traceparent": f"00-{number:016x}{one:016x}-{PARENT}-01"},
                    )
                    for one in range(1, 65)
                )
            )
        assert {answer.status_code for answer in answers} == {200}

    asyncio.run(ask_together())

    def mine() -> list[dict[str, Any]] | None:
        found = [span for span in spans[0].all() if span["trace_id"].startswith(f"{number:016x}")]
        tops = [span for span in found if span["name"] == "v1_predict"]
        return found if len(tops) == 64 else None

    found = until(mine, "64 requests")
    batches = [s for s in found if s["name"] == "batch" and "transformer" in s["service"]]
    tops = {span["span_id"]: span for span in found if span["name"] == "v1_predict"}
    requests = sum(batch["attributes"]["nimbusguard.batch.requests"] for batch in batches)
    assert requests == 64
    assert max(len(batch["links"]) for batch in batches) > 0
    for batch in batches:
        assert len(batch["links"]) == batch["attributes"]["nimbusguard.batch.requests"] - 1
        assert batch["parent_id"] in tops
        for other in batch["links"]:
            assert tops[other]["links"] == [batch["span_id"]]


def test_what_a_caller_does_not_want_traced_is_not(
    spans: tuple[Spans, dict[str, str]], transformer: Server
) -> None:
    """Neither here nor in the predictor, and without a caller's word the ratio counts."""
    url = f"{transformer.url}/v1/models/{MODEL}:predict"
    with httpx.Client(trust_env=False) as client:
        for headers in ({}, {"traceparent": f"00-{TRACE[::-1]}-{PARENT}-00"}):
            assert client.post(url, json={"instances": [ROW]}, headers=headers).status_code == 200
        told = {"traceparent": f"00-{'e' * 31}{len(hop_of(transformer)):x}-{PARENT}-01"}
        client.post(url, json={"instances": [ROW]}, headers=told)

    new = spans[0].complete(
        told["traceparent"][3:35], paths_below("transformer:v1_predict", hop_of(transformer))
    )

    collected = spans[0].all()
    assert len(new) == 6
    assert not [span for span in collected if span["trace_id"] == TRACE[::-1]]
    # With a ratio of 0 nobody but a caller begins a trace of a request.
    assert all(span["parent_id"] for span in collected if span["name"] in ROUTES)


def test_a_trace_is_the_example_of_its_latency_bucket(transformer: Server) -> None:
    """In OpenMetrics, which Prometheus asks for; the plain text has none."""
    url = f"{transformer.url}/v1/models/{MODEL}:predict"
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with httpx.Client(trust_env=False) as client:
        client.post(url, json={"instances": [ROW]}, headers=headers)
        wanted = {"accept": "application/openmetrics-text; version=1.0.0"}
        page = client.get(f"{transformer.url}/metrics", headers=wanted).text
        plain = client.get(f"{transformer.url}/metrics").text

    examples = [line for line in page.splitlines() if TRACE in line]
    assert examples
    assert all("nimbusguard_request_duration_seconds_bucket" in line for line in examples)
    assert 'route="v1_predict"' in examples[0]
    assert TRACE not in plain


def test_without_the_setting_nothing_is_imported() -> None:
    """Not what records and sends spans; the SDK of KServe imports the bare interface by itself."""
    program = (
        "import sys\n"
        "import autoscaler.run, predictor.assembly, transformer.service, serving.server\n"
        "from nimbusguard.telemetry.tracing import tracing\n"
        "with tracing({}, 'predictor') as tracer: assert tracer is None\n"
        "print([m for m in sys.modules if 'opentelemetry.proto' in m or '.otlp' in m])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip().splitlines()[-1] == "[]"
