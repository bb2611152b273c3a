"""How often Python searches for garbage cycles in a process that serves.

By default it does so whenever 700 more objects exist than before, and looks again and again at
jobs that are merely waiting: two fifths of the CPU time of a worker that is as busy as it can be.
"""

import gc

THRESHOLDS = (10_000, 20, 50)
"""New objects before a search among them; searches of each generation before one of the next."""


def search_less_often() -> None:
    """Call it first: what starting creates is searched, too."""
    gc.set_threshold(*THRESHOLDS)


def leave_out_what_exists() -> None:
    """Modules, settings, an engine: call it when all is there that stays for good."""
    gc.collect()
    gc.freeze()
