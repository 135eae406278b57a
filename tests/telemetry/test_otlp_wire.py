"""Spans as they travel, read with the library."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service_pb
from opentelemetry.proto.common.v1 import common_pb2 as common_pb
from opentelemetry.proto.resource.v1 import resource_pb2 as resource_pb
from opentelemetry.proto.trace.v1 import trace_pb2 as trace_pb

from nimbusguard.telemetry.otlp_wire import SpanIds, link_field, request_of, span_field
from nimbusguard.telemetry.spans import Kind, Value

IDS = SpanIds(b"t" * 16, b"", b"o" * 8)
KINDS = {
    Kind.INTERNAL: trace_pb.Span.SPAN_KIND_INTERNAL,
    Kind.SERVER: trace_pb.Span.SPAN_KIND_SERVER,
    Kind.CLIENT: trace_pb.Span.SPAN_KIND_CLIENT,
}
VALUES = (
    st.text(max_size=300)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
)


def any_value(value: Value) -> common_pb.AnyValue:
    if isinstance(value, bool):
        return common_pb.AnyValue(bool_value=value)
    if isinstance(value, int):
        return common_pb.AnyValue(int_value=value)
    if isinstance(value, float):
        return common_pb.AnyValue(double_value=value)
    return common_pb.AnyValue(string_value=value)


def span_of(field: bytes) -> trace_pb.Span:
    (span,) = trace_pb.ScopeSpans.FromString(field).spans
    return span


def field_of(ids: SpanIds = IDS, error: str | None = None) -> bytes:
    return span_field(
        ids, ("a", Kind.INTERNAL), (1, 2), tracestate=None, attributes={}, links=(), error=error
    )


@given(
    name=st.text(max_size=200),
    kind=st.sampled_from(Kind),
    times=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
    parent=st.just(b"") | st.binary(min_size=8, max_size=8),
    state=st.none() | st.from_regex(rb"[ -~]{1,512}", fullmatch=True),
    attributes=st.dictionaries(st.text(max_size=200), VALUES, max_size=5),
    links=st.lists(st.binary(min_size=8, max_size=8), max_size=130),
    error=st.none() | st.text(max_size=300),
)
def test_a_span_says_what_the_librarys_says(
    name: str,
    kind: Kind,
    times: tuple[int, int],
    parent: bytes,
    state: bytes | None,
    attributes: dict[str, Value],
    links: list[bytes],
    error: str | None,
) -> None:
    """Every field, whatever its length."""
    expected = trace_pb.Span(
        trace_id=IDS.trace,
        span_id=IDS.own,
        parent_span_id=parent,
        name=name,
        kind=KINDS[kind],
        start_time_unix_nano=times[0],
        end_time_unix_nano=times[1],
        trace_state=(state or b"").decode(),
        attributes=[
            common_pb.KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()
        ],
        links=[trace_pb.Span.Link(trace_id=IDS.trace, span_id=other) for other in links],
    )
    if error is not None:
        expected.status.code = trace_pb.Status.STATUS_CODE_ERROR
        expected.status.message = error

    field = span_field(
        IDS._replace(parent=parent),
        (name, kind),
        times,
        tracestate=state,
        attributes=attributes,
        links=[link_field(IDS.trace, other) for other in links],
        error=error,
    )

    assert span_of(field) == expected


def test_a_request_holds_its_process_and_all_spans() -> None:
    """One resource, one scope, and the spans in their order."""
    resource, scope = resource_pb.Resource(), common_pb.InstrumentationScope(name="n", version="1")
    resource.attributes.add(key="service.name").value.string_value = "s" * 200
    fields = [field_of(IDS._replace(own=bytes((number,)) * 8)) for number in range(100)]

    request = service_pb.ExportTraceServiceRequest.FromString(
        request_of(fields, resource.SerializeToString(), scope.SerializeToString())
    )

    (group,) = request.resource_spans
    (scoped,) = group.scope_spans
    assert (group.resource, scoped.scope) == (resource, scope)
    assert list(scoped.spans) == [span_of(field) for field in fields]


def test_an_error_that_is_no_text_is_told_all_the_same() -> None:
    """With a question mark for what cannot be written."""
    assert span_of(field_of(error="no file a\udcff")).status.message == "no file a?"


def test_equal_numbers_of_several_kinds_stay_apart() -> None:
    """1, 1.0 and true are equal in Python, and were written before."""
    kinds = []
    for value in (1, 1.0, True):
        field = span_field(
            IDS,
            ("a", Kind.INTERNAL),
            (1, 2),
            tracestate=None,
            attributes={"rows": value},
            links=(),
            error=None,
        )
        kinds.append(span_of(field).attributes[0].value.WhichOneof("value"))

    assert kinds == ["int_value", "double_value", "bool_value"]
