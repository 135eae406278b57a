"""Every alert fires when it should and keeps quiet when it should not, as `promtool` runs it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.live.programs import program

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "manifests/monitoring"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
ASKED = 'nimbusguard_model_serving_requests_total{component="transformer",route="v1_predict"'
SLOW = 'nimbusguard_request_duration_seconds_bucket{component="transformer",route="v1_predict"'
TIMED = 'nimbusguard_request_duration_seconds_count{component="transformer",route="v1_predict"}'
DECIDED = "nimbusguard_operator_decisions_total"
EVENTS = "nimbusguard_feature_events_total"
DAY = 15 * 24
"""Steps of four minutes; Prometheus looks back five for a recorded value."""


class Case(NamedTuple):
    """Series, one value a step, and the minute at which they are looked at."""

    fires: dict[str, str]
    quiet: dict[str, str]
    minute: int = 60
    step: str = "1m"


def errors(bad: int, minutes: int) -> dict[str, str]:
    """So many errors in ten thousand answers a minute."""
    return {
        f'{ASKED},status="200"}}': f"0+{10_000 - bad}x{minutes}",
        f'{ASKED},status="503"}}': f"0+{bad}x{minutes}",
    }


def slow(bad: int, minutes: int) -> dict[str, str]:
    """So many answers over 50 ms in a thousand a minute."""
    return {f'{SLOW},le="0.05"}}': f"0+{1000 - bad}x{minutes}", TIMED: f"0+1000x{minutes}"}


def fallbacks(bad: int, minutes: int) -> dict[str, str]:
    """So many decisions of the HPA rule in a thousand a minute."""
    return {
        f'{DECIDED}{{source="kserve"}}': f"0+{1000 - bad}x{minutes}",
        f'{DECIDED}{{source="hpa_rule"}}': f"0+{bad}x{minutes}",
    }


def events(kind: str, a_minute: int) -> dict[str, str]:
    """Rows that lack a feature or lie outside of its range, beside a hundred decisions."""
    return {
        f'{EVENTS}{{feature="queue_depth",event="{kind}"}}': f"0+{a_minute}x90",
        'nimbusguard_decisions_total{action="NO_ACTION"}': "0+100x90",
    }


def lateness(on_time: int) -> dict[str, str]:
    """So many of a thousand evaluations within a second."""
    name = "nimbusguard_operator_lateness_seconds_bucket"
    return {
        f'{name}{{le="1"}}': f"0+{on_time}x90",
        f'{name}{{le="2.5"}}': "0+1000x90",
        f'{name}{{le="+Inf"}}': "0+1000x90",
    }


def ready(value: int) -> dict[str, str]:
    return {'nimbusguard_ready{component="transformer",instance="a"}': f"{value}x90"}


def info(one: str, other: str) -> dict[str, str]:
    return {
        f'nimbusguard_model_info{{component="predictor",fingerprint="{one}"}}': "1x90",
        f'nimbusguard_operator_contract_info{{fingerprint="{other}"}}': "1x90",
    }


def compared(disagree: int) -> dict[str, str]:
    name = "nimbusguard_canary_comparisons_total"
    return {
        f'{name}{{verdict="agree"}}': f"0+{100 - disagree}x240",
        f'{name}{{verdict="disagree"}}': f"0+{disagree}x240",
    }


def flawed(a_minute: int) -> dict[str, str]:
    name = "nimbusguard_operator_flawed_readings_total"
    return {f'{name}{{flaw="missing"}}': f"0+{a_minute}x90"} | fallbacks(0, 90)


def one(series: str, fires: str, quiet: str) -> Case:
    """The same series with two courses."""
    return Case({series: fires}, {series: quiet})


def pushed(name: str) -> Case:
    """A gateway's counter of failures: from nothing to 1, beside one that is over a day old."""
    series = f'{name}{{outcome="failed"}}'
    return Case({series: "_x400 1x50"}, {series: f"1x{DAY + 90}"}, (DAY + 60) * 4, "4m")


def decisions(course: str) -> dict[str, str]:
    """A leader, two policies, and a course of decisions."""
    return {
        LEADER % "a": "1x90",
        'nimbusguard_operator_policies{mode="act"}': "2x90",
        f'{DECIDED}{{source="kserve"}}': course,
    }


LEADER = 'nimbusguard_operator_is_leader{instance="%s"}'
OVERLOADED = (
    'nimbusguard_model_serving_requests_total{component="transformer",instance="a",'
    'route="overloaded",status="503"}'
)
CASES = {
    "NimbusGuardErrorBudgetBurnsFast": Case(errors(200, 90), errors(20, 90), 80),
    "NimbusGuardErrorBudgetBurnsSlowly": Case(errors(40, DAY), errors(9, DAY), 4 * DAY, "4m"),
    "NimbusGuardLatencyBudgetBurnsFast": Case(slow(200, 90), slow(20, 90), 80),
    "NimbusGuardLatencyBudgetBurnsSlowly": Case(slow(40, DAY), slow(9, DAY), 4 * DAY, "4m"),
    "NimbusGuardFallbackBudgetBurnsFast": Case(fallbacks(200, 90), fallbacks(20, 90), 80),
    "NimbusGuardFallbackBudgetBurnsSlowly": Case(
        fallbacks(40, DAY), fallbacks(9, DAY), 4 * DAY, "4m"
    ),
    "NimbusGuardServiceAbsent": Case({"up": "1x90"}, ready(1)),
    "NimbusGuardNotReady": Case(ready(0), ready(1)),
    "NimbusGuardOverloaded": one(OVERLOADED, "0+60x90", "5x90"),
    "NimbusGuardNonFiniteOutput": one("nimbusguard_non_finite_outputs_total", "0+1x90", "7x90"),
    "NimbusGuardFingerprintsDiffer": Case(info("a", "b"), info("a", "a")),
    "NimbusGuardFeaturesRefused": Case(events("refused", 5), events("refused", 0)),
    "NimbusGuardFeaturesClipped": Case(events("clipped", 60), events("clipped", 30), 80),
    "NimbusGuardNoLeader": Case({LEADER % "a": "0x90"}, {LEADER % "a": "1x90"}),
    "NimbusGuardTwoLeaders": Case(
        {LEADER % "a": "1x90", LEADER % "b": "1x90"}, {LEADER % "a": "1x90", LEADER % "b": "0x90"}
    ),
    "NimbusGuardNothingDecided": Case(decisions("0+2x30 60x60"), decisions("0+2x90")),
    "NimbusGuardOperatorLate": Case(lateness(900), lateness(999)),
    "NimbusGuardBreakerOpen": one(
        'nimbusguard_breaker_state{arm="stable",state="open"}', "1x90", "0x90"
    ),
    "NimbusGuardModelValidationFailed": one(
        'nimbusguard_model_validation{arm="stable",check="q_values"}', "0x90", "-1x90"
    ),
    "NimbusGuardScalingFails": one(
        'nimbusguard_operator_scalings_total{result="failed"}', "0+1x90", "3x90"
    ),
    "NimbusGuardReadingsFlawed": Case(flawed(300), flawed(50)),
    "NimbusGuardPolicyRefused": one(
        'nimbusguard_operator_policies{mode="refused"}', "2x90", "0x90"
    ),
    "NimbusGuardExperienceLost": one(
        'nimbusguard_experience_rows_total{result="failed"}', "0+1x90", "4x90"
    ),
    "NimbusGuardCanaryDisagrees": Case(compared(50), compared(10), 200),
    "NimbusGuardPipelineFailed": pushed("nimbusguard_pipeline_runs_total"),
    "NimbusGuardSearchFailed": pushed("nimbusguard_hyperparameter_experiments_total"),
}


def test_every_alert_has_a_case() -> None:
    """A new alert without one fails here."""
    assert set(CASES) == set(ALERTS)


def test_the_rules_are_sound() -> None:
    """Expressions, templates and names, as Prometheus checks them at its start."""
    files = [str(path) for path in sorted(MONITORING.glob("*-rules.yaml"))]
    done = subprocess.run(
        [program("promtool"), "check", "rules", *files, str(MONITORING / "alerts.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(files) == 2


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_what_to_do(name: str) -> None:
    """A severity, two sentences, and a section of the runbooks."""
    rule = ALERTS[name]

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {heading.lower() for heading in headings}


def test_every_runbook_is_of_an_alert() -> None:
    """A section for an alert that is gone would mislead."""
    text = (ROOT / "docs/runbooks.md").read_text()

    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_fires_when_it_should(name: str, tmp_path: Path) -> None:
    """And not when it should not."""
    case = CASES[name]
    files = [MONITORING / "slo-rules.yaml"] * ("Budget" in name) + [MONITORING / "alerts.yaml"]
    expected = [
        (series, _firing(name, case.minute, fires=fires))
        for series, fires in ((case.fires, True), (case.quiet, False))
    ]

    done = _tested(tmp_path, files, case.step, expected)

    assert done.returncode == 0, done.stdout + done.stderr


HOUR = 60
BURNS = {
    # Within the hour, from a budget that was whole: only the windows of an hour and five minutes.
    ("Fast", "an outage"): ([(0, 6 * HOUR), (60, 20)], "1m", True),
    # Less than what an hour shows: only those of six hours and thirty minutes.
    ("Fast", "hours of errors"): ([(8, 6 * HOUR)], "1m", True),
    # Both short windows are far above; the long ones say that it costs little.
    ("Fast", "three bad minutes"): ([(0, 6 * HOUR), (100, 3)], "1m", False),
    # Both long windows are still above; the short ones say that it is over.
    ("Fast", "an outage that is over"): ([(0, 5 * HOUR), (50, HOUR), (0, 35)], "1m", False),
    ("Slowly", "days of errors"): ([(1.5, 3 * 24 * 15)], "4m", True),
    ("Slowly", "two bad hours"): ([(0, 3 * 24 * 15), (6, 2 * 15)], "4m", False),
    ("Slowly", "days that are over"): ([(1.5, 3 * 24 * 15), (0, 100)], "4m", False),
}
"""Courses: multiples of the allowed rate, each for so many steps; the step; whether it fires."""
OBJECTIVES = {
    "Error": (0.001, f'{ASKED},status="503"}}', {f'{ASKED},status="200"}}': False}),
    "Latency": (0.01, None, {f'{SLOW},le="0.05"}}': False, TIMED: True}),
    "Fallback": (0.01, f'{DECIDED}{{source="hold"}}', {f'{DECIDED}{{source="kserve"}}': False}),
}
"""What may be bad, the series of bad events, and those of the good or (true) of all."""


def course(rates: list[tuple[float, int]]) -> str:
    """A counter that grows by so much a step, for so many steps each."""
    pieces, total = [], 0.0
    for rate, steps in rates:
        pieces.append(f"{total + rate:g}+{rate:g}x{steps - 1}")
        total += rate * steps
    return " ".join(pieces)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
@pytest.mark.parametrize("kind", sorted(BURNS), ids="-".join)
def test_both_windows_of_a_burn_must_agree(
    objective: str, kind: tuple[str, str], tmp_path: Path
) -> None:
    """Each pair of windows by itself: neither a blip nor what is over calls anybody."""
    allowed, bad, others = OBJECTIVES[objective]
    burns, step, fires = BURNS[kind]
    shares = [(multiple * allowed, steps) for multiple, steps in burns]
    of_all = course([(1000, steps) for _, steps in burns])
    good = course([(1000 * (1 - share), steps) for share, steps in shares])
    series = {name: of_all if is_all else good for name, is_all in others.items()}
    if bad is not None:
        series[bad] = course([(1000 * share, steps) for share, steps in shares])
    steps = sum(steps for _, steps in burns)
    name = f"NimbusGuard{objective}BudgetBurns{kind[0]}"

    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(_rules_of(name)))

    expected = _firing(name, (steps - 1) * int(step[:-1]), fires=fires)
    done = _tested(tmp_path, [rules], step, [(series, expected)])

    assert done.returncode == 0, done.stdout + done.stderr


def _rules_of(alert: str) -> dict[str, Any]:
    """One alert as it is shipped, with the recording rules that it stands on, and nothing else."""
    groups = yaml.safe_load((MONITORING / "slo-rules.yaml").read_text())["groups"]
    used = [
        group
        for group in groups
        if any(rule["record"] in ALERTS[alert]["expr"] for rule in group["rules"])
    ]
    return {"groups": [*used, {"name": "alert", "rules": [ALERTS[alert]]}]}


def _tested(
    folder: Path, files: list[Path], step: str, tests: list[tuple[dict[str, str], dict[str, Any]]]
) -> subprocess.CompletedProcess[str]:
    """What promtool says of the shipped files, given series and what is expected of them."""
    document = {
        "rule_files": [str(file) for file in files],
        "evaluation_interval": step,
        "tests": [
            {
                "interval": step,
                "input_series": [{"series": key, "values": value} for key, value in series.items()],
                "promql_expr_test": [expected],
            }
            for series, expected in tests
        ],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(document))
    return subprocess.run(
        [program("promtool"), "test", "rules", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


def _firing(name: str, minute: int, *, fires: bool) -> dict[str, Any]:
    return {
        "expr": f'count(count by (alertname) (ALERTS{{alertname="{name}",alertstate="firing"}}))',
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
    }
