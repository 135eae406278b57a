"""Which workloads a canary decides for: a stable hash, so that one stays where it was.

A control loop is no stateless client. Were single requests split by chance, two policies would
fight over one workload and neither could be judged.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

_SPAN: Final = 2**64


class Arm(StrEnum):
    """Whose decision counts."""

    STABLE = "stable"
    CANARY = "canary"


SHADOW: Final = "shadow"
"""In records: the canary was asked about a workload of stable's, and not followed."""


def arm_of(uid: str, canary_share: float) -> Arm:
    """The arm of a workload; raising the share moves workloads to the canary and none away.

    Args:
        uid: The policy's id.
        canary_share: Share of workloads, 0 to 1.
    """
    digest = hashlib.sha256(b"canary:" + uid.encode()).digest()
    place = int.from_bytes(digest[:8], "big") / _SPAN
    return Arm.CANARY if place < canary_share else Arm.STABLE
