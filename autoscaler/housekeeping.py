"""What is done with experience every hour: first it is brought away, then the old of it removed."""

from __future__ import annotations

from autoscaler.experience import ExperienceStore
from autoscaler.settings import OperatorSettings

_DAY_S = 86_400.0


def keep_house(store: ExperienceStore, own: OperatorSettings, unix_s: float) -> None:
    """Export what is new, then remove what is old; blocks, so it has a thread of its own.

    Args:
        store: Where the rows are.
        own: Where to, and after how many days.
        unix_s: The time on the wall.

    Raises:
        Unavailable: The destination or the store cannot be used now; nothing was removed.
    """
    if own.export_to is not None:
        # Only here: the library takes 60 MiB, and most operators do not export.
        from autoscaler.export import export

        export(store, own.export_to, now_s=unix_s)
    store.prune(before_s=unix_s - own.experience_days * _DAY_S)
