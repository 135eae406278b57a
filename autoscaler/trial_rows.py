"""A `Trial` out of the tables of the experience store: only the columns that a judgement reads."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import orjson

from autoscaler.trials import Trial
from nimbusguard.contract.features import INDEX

_RATE_BYTES: Final = INDEX["request_rate"] * 8
SELECT_TRIALS: Final = """
SELECT e.sequence, e.policy, e.decided_at_s, e.mode, e.arm, e.action, e.asked, e.answer_s,
       e.model_version, e.fingerprint, e.current_replicas, e.guard,
       o.next_replicas, o.next_raw, o.observed_at_s, o.violating_requests
FROM experience e LEFT JOIN outcome o USING (decision_id)
WHERE e.sequence > ? ORDER BY e.sequence LIMIT ?
"""


def trial_of(row: Sequence[Any]) -> Trial:
    """A trial from the columns of `SELECT_TRIALS` behind the first."""
    policy, decided_at_s, mode, arm, action, asked, answer_s, version, fingerprint = row[:9]
    current_replicas, rules, next_replicas, next_raw, observed_at_s, violating = row[9:]
    requests = None
    if next_raw is not None:
        (rate,) = struct.unpack_from("<d", next_raw, _RATE_BYTES)
        # A rate that was absent is NaN, of which nothing is known.
        requests = rate * (observed_at_s - decided_at_s) if rate >= 0.0 else 0.0
    return Trial(
        policy=policy,
        decided_at_s=decided_at_s,
        mode=mode,
        arm=arm,
        action=action,
        asked=asked,
        answer_s=answer_s,
        model_version=version,
        fingerprint=fingerprint,
        current_replicas=current_replicas,
        rules=frozenset(orjson.loads(rules)),
        next_replicas=next_replicas,
        requests=requests,
        violating=violating,
    )
