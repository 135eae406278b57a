"""What is done with experience every hour: first it is brought away, then the old of it removed."""

from __future__ import annotations

import logging
from typing import Final

from autoscaler.experience import ExperienceStore
from autoscaler.settings import OperatorSettings

_LOG: Final = logging.getLogger(__name__)
_DAY_S: Final = 86_400.0
_MIB: Final = 2**20


def keep_house(store: ExperienceStore, own: OperatorSettings, unix_s: float) -> None:
    """Export what is new, then remove what is old; blocks, so it has a thread of its own.

    Args:
        store: Where the rows are.
        own: Where to, after how many days, and how large the file may be.
        unix_s: The time on the wall.

    Raises:
        Unavailable: The destination or the store cannot be used now. Nothing was removed for its
            age then, but the file is held to its size: a full volume ends more than the records.
    """
    try:
        if own.export_to is not None:
            # Only here: the library takes 60 MiB, and most operators do not export.
            from autoscaler.export import export

            export(store, own.export_to, now_s=unix_s)
        store.prune(before_s=unix_s - own.experience_days * _DAY_S)
    finally:
        removed = store.shrink(max_bytes=own.experience_mib * _MIB)
    if removed:
        _LOG.warning("experience removed for its size", extra={"decisions": removed})
