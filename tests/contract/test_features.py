"""The feature table is the specification's, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from nimbusguard.contract.features import (
    FEATURES,
    INDEX,
    MAXIMUM,
    MINIMUM,
    NAMES,
    POD_COUNT,
    REQUEST_RATE,
    STATE_DIM,
    Absence,
)

SPECIFIED = [
    ("cpu_utilization", 0, 1, Absence.REFUSE),
    ("memory_utilization", 0, 1, Absence.REFUSE),
    ("network_io_rate", 0, 1e6, Absence.REFUSE),
    ("request_rate", 0, 1000, Absence.REFUSE),
    ("pod_count", 1, 50, Absence.REFUSE),
    ("response_time_p95", 0, 5, Absence.ZERO_WITHOUT_TRAFFIC),
    ("error_rate", 0, 0.1, Absence.ZERO_WITHOUT_TRAFFIC),
    ("queue_depth", 0, 100, Absence.ZERO),
    ("cpu_throttling", 0, 1, Absence.ZERO),
    ("memory_pressure", 0, 1, Absence.REFUSE),
    ("node_utilization", 0, 1, Absence.REFUSE),
]


def test_the_table_is_the_specified_one() -> None:
    """Eleven features in this order, with these bounds and this meaning of absence."""
    table = [(f.name, f.minimum, f.maximum, f.absence) for f in FEATURES]

    assert table == SPECIFIED


def test_everything_derived_follows_the_table() -> None:
    """Names, places and bounds are taken from it and from nowhere else."""
    assert len(SPECIFIED) == STATE_DIM
    assert [NAMES[INDEX[name]] for name, *_ in SPECIFIED] == [name for name, *_ in SPECIFIED]
    assert MINIMUM.tolist() == [low for _, low, _, _ in SPECIFIED]
    assert MAXIMUM.tolist() == [high for _, _, high, _ in SPECIFIED]
    assert NAMES[REQUEST_RATE] == "request_rate"
    assert NAMES[POD_COUNT] == "pod_count"


def test_every_feature_says_what_it_is() -> None:
    """A unit and a meaning, for the documentation that is made from the table."""
    assert all(feature.unit and feature.meaning for feature in FEATURES)


@pytest.mark.parametrize("bounds", [MINIMUM, MAXIMUM], ids=["minimum", "maximum"])
def test_the_bounds_cannot_be_changed_by_accident(bounds: np.ndarray) -> None:
    """They are shared by every caller in the process."""
    with pytest.raises(ValueError, match="read-only"):
        bounds[0] = 7
