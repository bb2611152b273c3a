"""How long something took, for people."""

import pytest

from niyama.durations import duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (-0.0001, "0 ms"),
        (0.0421, "42 ms"),
        (-0.5, "-500 ms"),
        (0.9996, "1.0 s"),
        (9.94, "9.9 s"),
        (75, "75.0 s"),
        (750, "12.5 min"),
        (86_400, "24.0 h"),
        (-86_400 * 7, "-7.0 d"),
    ],
)
def test_a_duration_is_shown_in_the_unit_that_fits(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
