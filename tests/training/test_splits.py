"""Learning, calibration and judgement share no minute."""

from __future__ import annotations

import pytest

from training.simulator.settings import TraceSettings
from training.splits import CALIBRATION_DAYS, calibration_windows, learning_windows
from training.traces import Use, windows

FOLDER = TraceSettings.from_environ().folder
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the traces are not at hand")


def test_no_window_is_used_twice() -> None:
    """Names carry service and day, and a window is one day: no name, no minute in common."""
    learnt = {window.name for window in learning_windows(FOLDER)}
    calibrated = {window.name for window in calibration_windows(FOLDER)}
    judged = {window.name for use in (Use.VALIDATE, Use.STRESS) for window in windows(use, FOLDER)}

    assert not learnt & calibrated
    assert not (learnt | calibrated) & judged


def test_calibration_takes_the_last_week_of_each_service() -> None:
    """Seven days each, the latest that may be trained on."""
    names = [window.name for window in calibration_windows(FOLDER)]

    assert len(names) == 3 * CALIBRATION_DAYS
    assert names[6] == "wc98-1998-06-12"
    assert names[13] == "nasa-1995-07-21"


def test_every_service_is_learnt_from_as_often() -> None:
    """World Cup, NASA and Twitter alike, the season of the taxis a little."""
    groups = [window.group for window in learning_windows(FOLDER)]

    assert {group: groups.count(group) for group in set(groups)} == {
        "wc98": 60,
        "nasa": 60,
        "twitter": 60,
        "taxi": 4,
    }
