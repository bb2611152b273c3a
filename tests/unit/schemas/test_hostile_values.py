"""Values at their extremes are valid or refused: nothing else leaves a decoder."""

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.message import UtcDatetime

_TIMES = TypeAdapter(UtcDatetime)


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+10:00",  # before year 1 in UTC
        "9999-12-31T23:59:59-10:00",  # after year 9999 in UTC
    ],
)
def test_a_time_that_utc_cannot_express_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="between the years 1 and 9999"):
        _TIMES.validate_python(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_first_and_the_last_second_are_times(text: str) -> None:
    assert _TIMES.validate_python(text).utcoffset() is not None
