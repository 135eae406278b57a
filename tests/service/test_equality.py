"""One network, many protocols, one answer: torch called directly is the judge."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.probe import probe_states
from tests.service.asking import Q_WAYS, WAYS, Caller, Refused, Way
from tests.service.processes import Server
from tests.service.reference import (
    ACTIONS,
    TABLE,
    Asked,
    best_action,
    expected,
    refused_feature,
    torch_q_values,
)

pytestmark = pytest.mark.service

ROWS = 250
"""Rows of one request."""
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def rest_caller(transformer: Server) -> Iterator[Caller]:
    caller = Caller(transformer)
    yield caller
    caller.close()


@pytest.fixture(scope="module")
def grpc_hop_caller(grpc_hop_transformer: Server) -> Iterator[Caller]:
    caller = Caller(grpc_hop_transformer)
    yield caller
    caller.close()


@pytest.fixture(params=["rest_caller", "grpc_hop_caller"], ids=["hop v2", "hop grpc-v2"])
def caller(request: pytest.FixtureRequest) -> Caller:
    fixture: Caller = request.getfixturevalue(request.param)
    return fixture


@pytest.fixture
def predictor_caller(predictor: Server) -> Iterator[Caller]:
    caller = Caller(predictor)
    yield caller
    caller.close()


def random_rows(seed: int, *, with_options: bool) -> list[Asked]:
    """Rows that can be decided on: inside, on and beyond the bounds, +Inf, and NaN where it may be.

    All numbers are float32 values, so that FP32 and FP64 carry the same.
    """
    rng = np.random.default_rng(seed)
    asked = []
    for _ in range(ROWS):
        row = [_random_value(rng, low, high) for _, low, high, _ in TABLE]
        if rng.random() < 0.3:
            row[3] = 0.0
        for index, (name, _, _, absent) in enumerate(TABLE):
            may_be_absent = absent == "Z" or (absent == "T" and row[3] == 0)
            if may_be_absent and rng.random() < 0.3:
                row[index] = math.nan
            if name != "pod_count" and rng.random() < 0.02:
                row[index] = math.inf
        if not with_options:
            asked.append(Asked(tuple(row)))
            continue
        low, high = sorted(int(bound) for bound in rng.integers(0, 60, size=2))
        asked.append(Asked(tuple(row), int(rng.integers(0, 60)), low, high))
    return asked


def _random_value(rng: np.random.Generator, low: float, high: float) -> float:
    span = high - low
    kind = rng.integers(0, 4)
    if kind == 0:
        return float(np.float32(rng.choice([low, high])))
    if kind == 1:
        return float(np.float32(rng.uniform(low - span, high + span)))
    return float(np.float32(rng.uniform(low, high)))


@pytest.mark.parametrize("with_options", [False, True], ids=["plain", "with options"])
@pytest.mark.parametrize("seed", range(8))
def test_every_protocol_gives_the_decision_that_torch_and_the_rules_give(
    caller: Caller, seed: int, with_options: bool
) -> None:
    """4,000 rows a hop: Q-values within 1e-6 of torch, the same decision in every protocol."""
    rows = random_rows(1000 + seed, with_options=with_options)
    wanted = [expected(asked) for asked in rows]
    q_values = torch_q_values(np.array([each.state for each in wanted], dtype=np.float32))

    for name, way in WAYS.items():
        if with_options and name == "v1_array":
            continue
        decided = way(caller, rows)

        assert np.abs(decided.q_values - q_values).max() <= TOLERANCE, name
        for row, want in enumerate(wanted):
            action = best_action(decided.q_values[row].tolist(), want.allowed)
            assert decided.action_index[row] == list(ACTIONS).index(action), name
            assert decided.target[row] == want.current + ACTIONS[action], name
        for document, want in zip(decided.documents or (), wanted, strict=False):
            assert document["allowed_actions"] == list(want.allowed), name
            assert document["clipped_features"] == list(want.clipped), name
            assert document["imputed_features"] == list(want.imputed), name
            assert document["current_replicas"] == want.current, name
            assert document["replica_change"] == ACTIONS[document["action"]], name


@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_cannot_be_decided_on_is_refused_in_every_protocol(
    rest_caller: Caller, way: str
) -> None:
    """NaN where absence is refused, and -Inf: the message names the row and the feature."""
    rng = np.random.default_rng(7)
    good = random_rows(2000, with_options=False)
    for _ in range(40):
        place, feature = int(rng.integers(0, 5)), int(rng.integers(0, 11))
        row = list(good[place].row)
        row[feature] = math.nan if way == "v2_json" or rng.random() < 0.5 else -math.inf
        name = refused_feature(row)
        rows = [*good[:place], Asked(tuple(row)), *good[place + 1 : 5]]
        if name is None:
            assert len(WAYS[way](rest_caller, rows).target) == 5
            continue

        with pytest.raises(Refused) as refused:
            WAYS[way](rest_caller, rows)

        assert str(refused.value).startswith(f"instance {place}: {name}: expected a number")


@given(
    row=st.tuples(
        *(
            st.one_of(
                st.sampled_from([low, high, high + 1, low - 1, -0.0]),
                st.floats(low - 1, high + 1),
                st.sampled_from([math.nan, math.inf]),
            )
            for _, low, high, _ in TABLE
        )
    ),
    bounds=st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted),
    current=st.integers(0, 70),
)
@settings(max_examples=100)
def test_any_one_row_is_answered_alike_in_every_protocol(
    rest_caller: Caller, row: tuple[float, ...], bounds: list[int], current: int
) -> None:
    """Decided everywhere alike, or refused everywhere with the same reason."""
    exact = tuple(float(np.float32(value)) for value in row)
    asked = Asked(exact, current, *bounds)
    name = refused_feature(exact)
    outcomes = set()

    for way, ask in WAYS.items():
        if way == "v1_array":
            continue
        outcomes.add(_outcome(ask, rest_caller, asked))
    assert len(outcomes) == 1, outcomes
    (outcome,) = outcomes
    if name is None:
        assert not outcome.startswith("instance")
    else:
        assert outcome.startswith(f"instance 0: {name}: expected a number")


def _outcome(way: Way, caller: Caller, asked: Asked) -> str:
    try:
        decided = way(caller, [asked])
    except Refused as refused:
        return str(refused).partition(", got")[0]
    return f"action {decided.action_index[0]}, target {decided.target[0]}"


@pytest.mark.parametrize("way", Q_WAYS)
@pytest.mark.parametrize("rows", [1, 2, 3, 64, 1000, 10_000])
def test_the_predictor_answers_as_torch_does(predictor_caller: Caller, way: str, rows: int) -> None:
    """Within 1e-6 in every protocol, for any number of rows up to the limit."""
    states = probe_states(rows, seed=rows)

    q_values = Q_WAYS[way](predictor_caller, states)

    assert q_values.shape == (rows, 5)
    assert np.abs(q_values - torch_q_values(states)).max() <= TOLERANCE
