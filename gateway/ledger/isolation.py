"""Writing many records at once, although one of them may not be writable."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiokafka.errors import KafkaError

from gateway.database import UNREACHABLE, is_refusal
from gateway.ledger.records import unexpected
from gateway.ledger.writer import StaleOffsetsError
from niyama.logs import Throttle
from schemas import JobError

log = logging.getLogger(__name__)
_throttle = Throttle()

R = TypeVar("R")


async def write_isolated(
    records: Sequence[R],
    write: Callable[[Sequence[R]], Awaitable[None]],
    pass_over: Callable[[R, Exception], Awaitable[None]],
) -> None:
    """Give all records to `write`, or, when it raises because of some of them, half of them at a
    time, and each that it refuses alone to `pass_over`. Their order is kept.

    Raises what is not about the records, such as an outage. They are then written up to some point.
    """
    try:
        await write(records)
    except Exception as error:
        if not concerns_records(error):
            raise
        if len(records) == 1:
            await pass_over(records[0], error)
            return
        half = len(records) // 2
        await write_isolated(records[:half], write, pass_over)
        await write_isolated(records[half:], write, pass_over)


def concerns_records(error: Exception) -> bool:
    """Whether it is about what was to be written, so that other records may well be written."""
    if is_refusal(error) or isinstance(error, ValueError):  # which the driver cannot encode
        return True
    return not isinstance(error, (*UNREACHABLE, StaleOffsetsError, KafkaError))


def why_unusable(error: Exception) -> JobError:
    """What to say about a record that is passed over because of `error`, which is being handled."""
    if is_refusal(error) or isinstance(error, ValueError):
        return JobError(code="refused_by_ledger", message=f"the ledger cannot store this: {error}")
    _throttle.exception(log, "unexpected error in writing a record")
    return unexpected(error)
