"""Trying again what fails for a while."""

import logging
from collections.abc import Awaitable, Callable

import pytest

from niyama import retry as retry_module
from niyama.retry import retry

log = logging.getLogger(__name__)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_module, "RETRY_INTERVAL_S", 0.0)


def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
    """Raises each of `errors` in turn, then returns."""
    coming = list(errors)

    async def attempt() -> str:
        if coming:
            raise coming.pop(0)
        return "done"

    return attempt


async def test_returns_what_the_first_success_returns() -> None:
    attempt = failing(OSError(), TimeoutError())
    assert await retry(attempt, OSError, notice="waiting", log=log) == "done"


async def test_an_error_that_will_not_pass_is_raised() -> None:
    attempt = failing(OSError(), ValueError("wrong password"))
    with pytest.raises(ValueError, match="wrong password"):
        await retry(attempt, OSError, notice="waiting", log=log)


async def test_repeated_failures_are_one_notice_with_the_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempt = failing(OSError("refused"), OSError("refused"), OSError("refused"))
    await retry(attempt, OSError, notice="waiting for Kafka", log=log)
    assert caplog.messages == ["waiting for Kafka: OSError('refused')"]
