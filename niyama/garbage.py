"""How often Python searches for garbage cycles in a process that serves.

Nearly all that one makes is freed without that. By default a search starts whenever there are 700
more objects, and looks again and again at what stays for a while: jobs that wait, a list of a
large fleet. That took two fifths of the CPU time of a worker as busy as it can be, and held up a
gateway's requests for up to 0.6 s.
"""

import gc

THRESHOLDS = (50_000, 20, 50)
"""New objects before a search among them; searches of each generation before one of the next."""


def search_less_often() -> None:
    """Call it first: what starting creates is searched, too."""
    gc.set_threshold(*THRESHOLDS)


def leave_out_what_exists() -> None:
    """Modules, settings, an engine: call it when all is there that stays for good."""
    gc.collect()
    gc.freeze()
