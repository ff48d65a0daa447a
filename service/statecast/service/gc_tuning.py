"""When Python looks for garbage: seldom, since requests leave few cycles and looking costs a fifth of a step."""

import gc

THRESHOLDS = 2_000, 50, 100
"""New objects before the young are looked through, and how often that is before older ones are: `gc.set_threshold`."""


def look_seldom() -> None:
    """What is there by now stays, and is not looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
