"""What every view has in common."""

from gateway.api.view import Measured, View


class Shown(View):
    largest_gap_ms: Measured
    slack_s: Measured | None = None


def test_differences_of_times_are_shown_without_the_digits_that_mean_nothing() -> None:
    assert Shown(largest_gap_ms=42.00000000128057).model_dump(mode="json") == {
        "largest_gap_ms": 42.0,
        "slack_s": None,
    }
    assert '"slack_s":0.123457' in Shown(largest_gap_ms=1, slack_s=0.12345678).model_dump_json()
