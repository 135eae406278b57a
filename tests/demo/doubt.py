"""How far two deciders differ by chance: a run of ten minutes has few surges.

Both get every request at the same moment, so their violations are compared block by block. A block
is longer than the time after which a queue or a missing pod is forgotten; what the differences
scatter from block to block, the difference of the whole run scatters by the root of their number.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.demo.rounds import Round

BLOCK_S: Final = 30.0
"""Six intervals of the demo: a surge, its pods, and what it left waiting."""
_FEWEST: Final = 10
"""Blocks; from fewer the scatter is not known either."""
_STANDARD_ERRORS: Final = 2.0
"""Within so many the truth lies in nineteen of twenty runs."""


class Difference(NamedTuple):
    """How many more violations one has than the other."""

    more: int
    chance: float | None
    """What chance alone may do; None where the run is too short to tell."""

    @property
    def is_told(self) -> bool:
        """Whether the run tells which is better."""
        return self.chance is not None and abs(self.more) > self.chance


def difference(ours: Round, theirs: Round, *, seconds: float) -> Difference:
    """How far two rounds of the same run differ.

    Args:
        ours: One of them.
        theirs: The other.
        seconds: Length of the run.
    """
    more, blocks = ours.violations - theirs.violations, int(seconds // BLOCK_S)
    if blocks < _FEWEST:
        return Difference(more, None)
    each = _by_block(ours, blocks) - _by_block(theirs, blocks)  # (blocks,)
    scatter = float(each.std(ddof=1)) * float(np.sqrt(blocks))
    return Difference(more, _STANDARD_ERRORS * scatter)


def _by_block(one: Round, blocks: int) -> NDArray[np.int64]:
    """Violations by the block in which they were sent; what is left over belongs to the last."""
    bad = (request for request in one.requests if request.violates(one.objective_s))
    places = [min(int(request.sent_s // BLOCK_S), blocks - 1) for request in bad]
    counts: NDArray[np.int64] = np.bincount(places, minlength=blocks)
    return counts
