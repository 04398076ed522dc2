"""When the tile of a step is read, in loops in which some products lag behind."""

from __future__ import annotations

from enum import Enum


class Reading(Enum):
    """When the tile of a step is read, in loops in which products lag one step behind (``Group.lagging``)."""

    STEP = "step"  # by anything in the step; given back when it ends
    LEAD = "lead"  # by nothing but the products that the step begins with
    LAG = "lag"  # by nothing but the products that lag behind, while the next step is under way
    THROUGH = "through"  # from the beginning of the step until the products that lag behind have read it

    @property
    def lags(self) -> bool:
        return self in (Reading.LAG, Reading.THROUGH)
