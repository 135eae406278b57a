"""The V1 wire forms, from decoded JSON to typed values and back. V2 is in `tensors`.

Nothing here reads bytes or knows HTTP: a body has been decoded before it comes here, and what
leaves is plain data. Every message of `InvalidRequest` names the instance and the field.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import DEFAULT_MAX_REPLICAS, DEFAULT_MIN_REPLICAS
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import NAMES, STATE_DIM
from nimbusguard.contract.prometheus import parse_instant_answer
from nimbusguard.contract.promql import check_workload

MAX_REPLICAS_VALUE: Final = 1_000_000
"""A replica count above this is a mistake, not a cluster."""

FROM_POD_COUNT: Final = -1
"""`RowOptions.current_replicas` when the caller left it to `pod_count`."""

_OPTION_KEYS: Final = frozenset({"current_replicas", "min_replicas", "max_replicas", "workload"})
_NAMED_KEYS: Final = frozenset(NAMES) | _OPTION_KEYS
_PLAIN: Final = frozenset({float, int})
# float() would also take "1_000" and digits of any script, and needs seconds for a million digits;
# the longest float64 that is written without an exponent has 309 before the point.
_NUMERIC: Final = re.compile(r"[ -^`-~]{1,400}")
_named_row: Final[Callable[[Mapping[str, float]], tuple[float, ...]]] = operator.itemgetter(*NAMES)
_KINDS: Final = (
    "an object of named features, an array of 11 numbers, "
    '{"prometheus": …} or {"workload": {"namespace": …, "deployment": …}}'
)


class WorkloadReference(NamedTuple):
    """A workload whose metrics are to be looked up."""

    namespace: str
    deployment: str


class RowOptions(NamedTuple):
    """What a caller said beside the eleven features of one row."""

    current_replicas: int = FROM_POD_COUNT
    min_replicas: int = DEFAULT_MIN_REPLICAS
    max_replicas: int = DEFAULT_MAX_REPLICAS
    workload: Any = None
    """Echoed in the decision; a string or an object without others inside."""


@dataclass(frozen=True, slots=True)
class MetricRows:
    """The raw metrics of one request, before absence is resolved."""

    rows: Sequence[Sequence[float]] | NDArray[np.float64]
    """B rows of F finite numbers, +Inf or NaN for absent."""
    options: dict[int, RowOptions] = field(default_factory=dict)
    """By row; a row without an entry has the defaults."""
    lookups: dict[int, WorkloadReference] = field(default_factory=dict)
    """Rows that still have to be looked up; their entry in `rows` stands for nothing."""

    def __len__(self) -> int:
        return len(self.rows)


def is_plain_row(row: Sequence[Any]) -> bool:
    """Whether a row holds eleven JSON numbers and nothing else; booleans are none."""
    return len(row) == STATE_DIM and _PLAIN.issuperset(map(type, row))


def parse_metrics(body: object, *, max_rows: int) -> MetricRows:
    """The instances of a transformer's `:predict` body.

    Args:
        body: The decoded JSON.
        max_rows: The largest number of instances.

    Raises:
        InvalidRequest: The body or an instance has no known form.
    """
    if type(body) is dict and "cluster_state" in body and "instances" not in body:
        instances: list[Any] = [_from_cluster_state(body)]
    else:
        instances = instances_of(body, max_rows=max_rows)
    rows: list[Sequence[float]] = []
    options: dict[int, RowOptions] = {}
    lookups: dict[int, WorkloadReference] = {}
    for index, instance in enumerate(instances):
        if type(instance) is dict:
            if len(instance) == STATE_DIM:
                try:
                    named = _named_row(instance)
                except KeyError:
                    named = ()
                if is_plain_row(named):
                    rows.append(named)
                    continue
            row, extra, lookup = _parse_object(instance, f"instance {index}")
            rows.append(row)
            if extra is not None:
                options[index] = extra
            if lookup is not None:
                lookups[index] = lookup
        elif type(instance) is list:
            rows.append(instance if is_plain_row(instance) else _parse_array(instance, index))
        else:
            message = f"instance {index}: expected {_KINDS}, got {describe(instance)}"
            raise InvalidRequest(message)
    return MetricRows(rows, options, lookups)


def parse_states(body: object, *, max_rows: int) -> list[list[float]]:
    """The instances of a predictor's `:predict` body: rows of eleven numbers, type-checked.

    Raises:
        InvalidRequest: The body or an instance has another form.
    """
    instances = instances_of(body, max_rows=max_rows)
    for index, instance in enumerate(instances):
        if type(instance) is list and is_plain_row(instance):
            continue
        if type(instance) is not list:
            message = f"instance {index}: expected an array of {STATE_DIM} numbers in [0, 1], got "
            raise InvalidRequest(message + describe(instance))
        _check_length(instance, f"instance {index}")
        for name, value in zip(NAMES, instance, strict=True):
            if type(value) not in _PLAIN:
                message = f"instance {index}: {name}: expected a number in [0, 1], got "
                raise InvalidRequest(message + describe(value))
    return instances


def instances_of(body: object, *, max_rows: int) -> list[Any]:
    """The list under `instances`, checked for its length.

    Raises:
        InvalidRequest: There is no such list, it is empty, or longer than `max_rows`.
    """
    if type(body) is not dict:
        message = f'body: expected an object {{"instances": […]}}, got {describe(body)}'
        raise InvalidRequest(message)
    if "instances" not in body:
        message = f"body: expected the key 'instances', got {_listed(body)}"
        raise InvalidRequest(message)
    unknown = body.keys() - {"instances"}
    if unknown:
        # A bound that stands beside `instances` would be ignored, and the caller would not know.
        message = f"body: expected only the key 'instances', got also {_listed(unknown)}"
        raise InvalidRequest(message)
    instances = body["instances"]
    if type(instances) is not list:
        message = f"instances: expected an array, got {describe(instances)}"
        raise InvalidRequest(message)
    check_row_count(len(instances), max_rows=max_rows, where="instances")
    return instances


def check_row_count(rows: int, *, max_rows: int, where: str) -> None:
    """Refuse no rows and too many.

    Raises:
        InvalidRequest: `rows` is 0 or above `max_rows`.
    """
    if rows == 0:
        message = f"{where}: expected at least one row, got none"
        raise InvalidRequest(message)
    if rows > max_rows:
        message = f"{where}: expected at most {max_rows} rows, got {rows}; send several requests"
        raise InvalidRequest(message)


def describe(value: object) -> str:
    """A received value, short enough for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"an object with {_listed(value)}" if value else "an empty object"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def check_bounds(options: RowOptions, where: str) -> None:
    """Refuse a minimum above the maximum.

    Raises:
        InvalidRequest: The bounds are the wrong way round.
    """
    if options.min_replicas > options.max_replicas:
        message = (
            f"{where}: min_replicas: expected at most max_replicas ({options.max_replicas}), "
            f"got {options.min_replicas}"
        )
        raise InvalidRequest(message)


def _from_cluster_state(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The older form: one object of named features with the options beside it."""
    state = body["cluster_state"]
    if type(state) is not dict:
        message = f"cluster_state: expected an object of named features, got {describe(state)}"
        raise InvalidRequest(message)
    unknown = body.keys() - _OPTION_KEYS - {"cluster_state"}
    if unknown:
        message = f"body: unknown key beside 'cluster_state': {_listed(unknown)}"
        raise InvalidRequest(message)
    beside = {key: value for key, value in body.items() if key != "cluster_state"}
    twice = beside.keys() & state.keys()
    if twice:
        message = f"cluster_state: {_listed(twice)} given both inside and beside it"
        raise InvalidRequest(message)
    return {**state, **beside}


def _parse_object(
    instance: Mapping[str, Any], where: str
) -> tuple[Sequence[float], RowOptions | None, WorkloadReference | None]:
    """An instance of kind 1, 3 or 4 that is not the plain eleven numbers."""
    options = _parse_options(instance, where)
    features = instance.keys() - _OPTION_KEYS
    if "prometheus" in instance:
        _refuse_unknown(features - {"prometheus"}, where, "beside 'prometheus'")
        row = parse_instant_answer(instance["prometheus"], where)
        return row.tolist(), options, None
    if not features and type(instance.get("workload")) is dict:
        reference = _parse_reference(instance["workload"], where)
        return (math.nan,) * STATE_DIM, options, reference
    _refuse_unknown(features - _NAMED_KEYS, where, "")
    if not features:
        message = f"{where}: expected {_KINDS}, got {describe(instance)}"
        raise InvalidRequest(message)
    values = [parse_number(instance.get(name), f"{where}: {name}") for name in NAMES]
    return values, options, None


def _refuse_unknown(keys: set[str], where: str, place: str) -> None:
    if keys:
        message = f"{where}: unknown feature {place}: {_listed(keys)}; expected " + ", ".join(NAMES)
        raise InvalidRequest(message.replace(" :", ":"))


def _parse_reference(value: Mapping[str, Any], where: str) -> WorkloadReference:
    if value.keys() != {"namespace", "deployment"}:
        message = (
            f"{where}: workload: expected an object with 'namespace' and 'deployment', "
            f"got {describe(value)}"
        )
        raise InvalidRequest(message)
    check_workload(value["namespace"], value["deployment"], where)
    return WorkloadReference(value["namespace"], value["deployment"])


def _parse_options(instance: Mapping[str, Any], where: str) -> RowOptions | None:
    if instance.keys().isdisjoint(_OPTION_KEYS):
        return None
    workload = instance.get("workload")
    if workload is not None and type(workload) is not str and not _is_flat(workload):
        message = (
            f"{where}: workload: expected a string or an object without others inside, "
            f"got {describe(workload)}"
        )
        raise InvalidRequest(message)
    options = RowOptions(
        _replicas(instance, "current_replicas", FROM_POD_COUNT, where),
        _replicas(instance, "min_replicas", DEFAULT_MIN_REPLICAS, where),
        _replicas(instance, "max_replicas", DEFAULT_MAX_REPLICAS, where),
        workload,
    )
    check_bounds(options, where)
    return options


def _is_flat(value: object) -> bool:
    """Whether a value is an object of scalars: it is sent back, and JSON has a largest depth."""
    return type(value) is dict and not any(type(part) in (dict, list) for part in value.values())


def _replicas(instance: Mapping[str, Any], key: str, default: int, where: str) -> int:
    value = instance.get(key)
    if value is None:
        return default
    if type(value) is int and 0 <= value <= MAX_REPLICAS_VALUE:
        return value
    number = parse_number(value, f"{where}: {key}")
    # The range first: NaN lies in none, and infinity has no floor.
    if not 0 <= number <= MAX_REPLICAS_VALUE or number != math.floor(number):
        message = (
            f"{where}: {key}: expected a whole number from 0 to {MAX_REPLICAS_VALUE}, "
            f"got {describe(value)}"
        )
        raise InvalidRequest(message)
    return int(number)


def _parse_array(instance: list[Any], index: int) -> list[float]:
    where = f"instance {index}"
    _check_length(instance, where)
    return [
        parse_number(value, f"{where}: {name}") for name, value in zip(NAMES, instance, strict=True)
    ]


def _check_length(instance: list[Any], where: str) -> None:
    if len(instance) != STATE_DIM:
        message = (
            f"{where}: expected {STATE_DIM} numbers ({NAMES[0]}, {NAMES[1]}, …, {NAMES[-1]}), "
            f"got {len(instance)}"
        )
        raise InvalidRequest(message)


def parse_number(value: object, where: str) -> float:
    """A JSON number or a numeric string; null, "NaN" and a left-out name are NaN, for absent.

    Raises:
        InvalidRequest: The value is -Inf, a boolean or no number.
    """
    if value is None:
        return math.nan
    number = math.nan
    if type(value) in _PLAIN:
        number = float(value)  # type: ignore[arg-type]  # the type was just checked
    elif type(value) is str and _NUMERIC.fullmatch(value):
        try:
            number = float(value)
        except ValueError:
            message = f"{where}: expected a number, got {describe(value)}"
            raise InvalidRequest(message) from None
    else:
        message = f"{where}: expected a number, got {describe(value)}"
        raise InvalidRequest(message)
    if number == -math.inf:
        message = f"{where}: expected a number above -Inf, got {describe(value)}"
        raise InvalidRequest(message)
    return number


def refused_message(row: int, feature: int, value: float, request_rate: float) -> str:
    """Why a row cannot be decided on: a feature is absent where that is refused, or -Inf."""
    name = NAMES[feature]
    if value == -math.inf:
        return f"instance {row}: {name}: expected a number above -Inf, got -Inf"
    reason = "absent or NaN, and missing data must not look like an idle service"
    if name in ("response_time_p95", "error_rate"):
        rate = "absent" if request_rate != request_rate else f"{request_rate:g}"
        reason = (
            f"absent or NaN while request_rate is {rate}; it counts as 0 only without traffic, "
            f"or with ABSENT_AS_ZERO={name}"
        )
    return f"instance {row}: {name}: expected a number, got {reason}"


def _listed(keys: object) -> str:
    names = [repr(str(key)) for key in sorted(map(str, keys))]  # type: ignore[call-overload]
    shown = ", ".join(name if len(name) <= 40 else name[:37] + "…'" for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "no key"
