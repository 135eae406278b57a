"""docs/operate.md agrees with the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from autoscaler.policy_spec import PAUSE_ANNOTATION
from autoscaler.rails import Rail
from autoscaler.settings import PREFIX, OperatorSettings, operator_settings
from nimbusguard.policy.guard import Rule

PAGE = (Path(__file__).parents[2] / "docs/operate.md").read_text()
DEFAULTS = {"all", "none", "the pod's own", "the packaged store", "host name and process id"}
"""How the page writes an empty default."""


def test_every_setting_is_on_the_page_with_its_default() -> None:
    """And no other; the defaults are read back by the code itself."""
    rows = re.findall(r"^\| `(AUTOSCALER_\w+|ABSENT_AS_ZERO)` \| (.+?) \|", PAGE, re.MULTILINE)
    environ = {key: "" if text in DEFAULTS else text.strip("`") for key, text in rows}

    keys = {f"{PREFIX}{field.name.upper()}" for field in fields(OperatorSettings)}
    assert set(environ) == (keys - {"AUTOSCALER_ABSENT_AS_ZERO"}) | {"ABSENT_AS_ZERO"}
    assert operator_settings(environ) == OperatorSettings()


def test_every_rule_is_on_the_page() -> None:
    """Those of the operator and those of the guard."""
    for rule in Rail:
        assert f"`{rule.value}`" in PAGE
    for name in (rule.name for rule in Rule if rule.name):
        assert f"`{name}`" in PAGE
    assert PAUSE_ANNOTATION in PAGE
