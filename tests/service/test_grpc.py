"""How both services behave over gRPC, beside inference: health, reflection, metadata, ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

from nimbusguard import __version__
from nimbusguard.contract.fingerprint import FINGERPRINT
from tests.service.bad_requests import good_message
from tests.service.processes import MODEL, VERSION, Server, running
from tests.service.test_manners import TENSORS

pytestmark = pytest.mark.service

SERVICE = "inference.GRPCInferenceService"
TIMEOUT_S = 20
HealthStatus = health_pb2.HealthCheckResponse


@pytest.fixture
def channel(either_service: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(either_service.grpc_target) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return pb_grpc.GRPCInferenceServiceStub(channel)


@pytest.mark.parametrize("name", ["", SERVICE])
def test_health_is_checked_and_watched(channel: grpc.Channel, name: str) -> None:
    """Of the server and of its inference service, as a `grpc:` probe asks for it."""
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=name)

    assert health.Check(request, timeout=TIMEOUT_S).status == HealthStatus.SERVING
    watch = health.Watch(request, timeout=TIMEOUT_S)
    assert next(watch).status == HealthStatus.SERVING
    watch.cancel()


def test_the_health_of_an_unknown_service_is_unknown(channel: grpc.Channel) -> None:
    """NOT_FOUND to a check, SERVICE_UNKNOWN to a watch, as the protocol says."""
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="nowhere")

    with pytest.raises(grpc.RpcError) as caught:
        health.Check(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = health.Watch(request, timeout=TIMEOUT_S)
    assert next(watch).status == HealthStatus.SERVICE_UNKNOWN
    watch.cancel()


def test_a_watch_is_told_of_the_end(tmp_path: Path) -> None:
    """NOT_SERVING, then the stream ends; it does not hold the server for its grace period."""
    with running("predictor", tmp_path / "log.jsonl") as server:
        with grpc.insecure_channel(server.grpc_target) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
            assert next(watch).status == HealthStatus.SERVING

            server.process.terminate()

            assert [answer.status for answer in watch] == [HealthStatus.NOT_SERVING]
        assert server.process.wait(10) == 0
        assert server.complaints() == []


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    """So that grpcurl needs no proto file."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    symbol = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)

    answers = list(stub.ServerReflectionInfo(iter([request, symbol]), timeout=TIMEOUT_S))

    listed = {service.name for service in answers[0].list_services_response.service}
    assert listed == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert len(answers[1].file_descriptor_response.file_descriptor_proto) > 0


def test_server_and_model_are_described(stub: Any, either_service: Server) -> None:
    """As over REST."""
    server = stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=TIMEOUT_S)
    request = pb.ModelMetadataRequest(name=MODEL, version=VERSION)
    model = stub.ModelMetadata(request, timeout=TIMEOUT_S)

    assert server.name == f"nimbusguard-{either_service.module}"
    assert server.version == __version__
    assert list(server.extensions) == ["binary_tensor_data"]
    tensors = TENSORS[either_service.module]
    assert (model.name, list(model.versions), model.platform) == (
        MODEL,
        [VERSION],
        tensors["platform"],
    )
    for given, wanted in ((model.inputs, tensors["inputs"]), (model.outputs, tensors["outputs"])):
        described = [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
            for tensor in given
        ]
        assert described == wanted


def test_server_and_model_are_live_and_ready(stub: Any) -> None:
    """The four questions, and the loaded version by its number."""
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S).live
    assert stub.ServerReady(pb.ServerReadyRequest(), timeout=TIMEOUT_S).ready
    for version in ("", VERSION):
        request = pb.ModelReadyRequest(name=MODEL, version=version)
        assert stub.ModelReady(request, timeout=TIMEOUT_S).ready


def test_an_answer_says_what_was_asked_and_who_answered(stub: Any, either_service: Server) -> None:
    """The id, the version by number or not, the fingerprint."""
    request = pb.ModelInferRequest.FromString(good_message(either_service.module))
    request.id = "order-17"
    for version in ("", VERSION):
        request.model_version = version
        answer = stub.ModelInfer(request, timeout=TIMEOUT_S)
        assert (answer.id, answer.model_name, answer.model_version) == ("order-17", MODEL, VERSION)
        assert answer.parameters["fingerprint"].string_param == FINGERPRINT


def test_outputs_come_as_they_are_asked_for(stub: Any, transformer: Server) -> None:
    """Only those, in that order."""
    with grpc.insecure_channel(transformer.grpc_target) as channel:
        request = pb.ModelInferRequest.FromString(good_message("transformer"))
        for name in ("target_replicas", "action"):
            request.outputs.add(name=name)
        answer = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=TIMEOUT_S)

    assert [output.name for output in answer.outputs] == ["target_replicas", "action"]


@pytest.mark.parametrize("given", [None, "order 17"])
def test_a_request_id_comes_back_in_the_trailing_metadata(
    stub: Any, either_service: Server, given: str | None
) -> None:
    """On success and on failure; one is made where none came."""
    metadata = (("x-request-id", given),) if given else ()
    request = pb.ModelInferRequest.FromString(good_message(either_service.module))

    _, call = stub.ModelInfer.with_call(request, timeout=TIMEOUT_S, metadata=metadata)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(pb.ModelInferRequest(), timeout=TIMEOUT_S, metadata=metadata)

    echoed = dict(call.trailing_metadata())["x-request-id"]
    echoed_with_error = dict(caught.value.trailing_metadata())["x-request-id"]
    if given:
        assert echoed == echoed_with_error == given
    else:
        assert echoed != echoed_with_error


GARBAGE = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    f"/{SERVICE}/ServerLive",
]


@pytest.mark.parametrize("method", GARBAGE)
def test_bytes_that_are_no_message_are_refused_by_every_service(
    channel: grpc.Channel, method: str
) -> None:
    """INVALID_ARGUMENT, and no traceback in the log."""
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream(method)(iter([b"\xff\xff\xff"]), timeout=TIMEOUT_S))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "expected a protobuf message" in caught.value.details()
