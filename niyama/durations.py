"""How long something took, or will take, in the same words wherever people read it."""

_ONE_SECOND = 0.9995
"""Less than this is shown in whole milliseconds, and 1,000 of them never are."""


def duration(seconds: float) -> str:
    """In the unit that fits: 420 ms, 8.1 s, 75.0 s, 12.5 min, 30.0 h, 3.5 d."""
    length_s = abs(seconds)
    if length_s < _ONE_SECOND:
        return f"{round(seconds * 1000)} ms"
    if length_s < 100:
        return f"{seconds:.1f} s"
    if length_s < 100 * 60:
        return f"{seconds / 60:.1f} min"
    if length_s < 100 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:,.1f} d"
