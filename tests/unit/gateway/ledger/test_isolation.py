"""One record that cannot be written keeps none of the others from it."""

from collections.abc import Sequence

import asyncpg
import pytest
from aiokafka.errors import KafkaConnectionError
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.isolation import concerns_records, why_unusable, write_isolated
from gateway.ledger.writer import StaleOffsetsError

CLIENT_DATA_ERROR = asyncpg.exceptions._base.DataError("cannot encode")


class Database:
    """Refuses what contains a bad record."""

    def __init__(self, bad: frozenset[int], error: Exception) -> None:
        self.bad = bad
        self.error = error
        self.written: list[int] = []
        self.passed_over: list[int] = []
        self.transactions = 0

    async def write(self, records: Sequence[int]) -> None:
        self.transactions += 1
        if self.bad & set(records):
            raise self.error
        self.written += records

    async def pass_over(self, record: int, error: Exception) -> None:
        assert error is self.error
        assert self.written == sorted(set(range(record)) - self.bad)  # all before it, in order
        self.passed_over.append(record)


@given(count=st.integers(1, 200), bad=st.frozensets(st.integers(0, 199), max_size=20))
async def test_what_is_bad_is_passed_over_alone(count: int, bad: frozenset[int]) -> None:
    bad &= set(range(count))
    database = Database(bad, asyncpg.DataError("out of range"))

    await write_isolated(range(count), database.write, database.pass_over)

    assert database.passed_over == sorted(bad)
    assert database.written == sorted(set(range(count)) - bad)
    assert database.transactions <= min(2 * count, 1 + 2 * len(bad) * count.bit_length())


async def test_an_outage_is_about_no_record() -> None:
    outage = asyncpg.ConnectionDoesNotExistError("gone")
    database = Database(frozenset({3}), outage)

    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await write_isolated(range(9), database.write, database.pass_over)

    assert (database.transactions, database.passed_over) == (1, [])


@pytest.mark.parametrize(
    ("error", "about_records", "code"),
    [
        (asyncpg.NumericValueOutOfRangeError("integer"), True, "refused_by_ledger"),
        (asyncpg.UniqueViolationError("twice"), True, "refused_by_ledger"),
        (asyncpg.ProgramLimitExceededError("index row"), True, "refused_by_ledger"),
        (CLIENT_DATA_ERROR, True, "refused_by_ledger"),
        (KeyError("a mistake of ours"), True, "internal_error"),
        (RecursionError("too deep"), True, "internal_error"),
        (asyncpg.DiskFullError("full"), False, ""),
        (asyncpg.UndefinedColumnError("not migrated"), False, ""),
        (asyncpg.InterfaceError("closed"), False, ""),
        (ConnectionResetError("gone"), False, ""),
        (TimeoutError("hangs"), False, ""),
        (StaleOffsetsError(), False, ""),
        (KafkaConnectionError("gone"), False, ""),
    ],
)
def test_what_an_error_is_about(error: Exception, about_records: bool, code: str) -> None:
    assert concerns_records(error) == about_records
    if about_records:
        assert why_unusable(error).code == code
