"""Makes garbage collection rare: requests leave few cycles, and collecting costs a fifth of a step."""

import gc

THRESHOLDS = 2_000, 50, 100
"""Allocations before a collection, and collections before one of older generations: `gc.set_threshold`."""


def look_seldom() -> None:
    """Exempt all objects alive now from collection, and collect others rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
