"""Taking jobs while Postgres is away."""

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr

import niyama
from gateway.api.problems import ProblemError
from gateway.api.submissions import (
    KAFKA_TIMEOUT_S,
    REMEMBERED_TIMEOUT_S,
    TURN_TIMEOUT_S,
    Submissions,
)
from gateway.database import READ_TIMEOUT_S
from gateway.ledger import queries
from gateway.settings import GatewaySettings
from niyama import EncodedJob, JobAcknowledgement
from niyama.log_lines import LineFormatter
from tests.support.records import JOB_DOCUMENT, TRACEPARENT
from tests.support.virtual_time import run_in_virtual_time

SECRET = SecretStr("what all gateways know")
BODY = json.dumps(JOB_DOCUMENT).encode()


class Ledger(queries.Ledger):
    """One that cannot be read."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def job(self, job_id: UUID) -> None:
        raise self._error

    async def idempotency_secret(self) -> bytes:
        raise self._error


class FrozenLedger(queries.Ledger):
    """One that does not answer."""

    def __init__(self) -> None:
        """Nothing to connect to."""

    async def job(self, job_id: UUID) -> None:
        await asyncio.sleep(READ_TIMEOUT_S)
        raise TimeoutError


class Producer(niyama.Producer):
    """Kafka takes every job, unless it is frozen."""

    def __init__(self, *, frozen: bool = False) -> None:
        super().__init__()
        self.sent: list[UUID] = []
        self._frozen = frozen

    async def send(self, encoded: EncodedJob, **_: Any) -> JobAcknowledgement:
        if self._frozen:
            await asyncio.Event().wait()
        self.sent.append(encoded.job_id)
        return JobAcknowledgement(encoded.job_id, datetime.now(UTC), encoded.topic, 0, 1)


def submissions(
    producer: Producer, secret: SecretStr | None = SECRET, error: Exception | None = None
) -> Submissions:
    """Without Postgres."""
    settings = GatewaySettings(idempotency_secret=secret)
    return Submissions(settings, producer, Ledger(error or ConnectionRefusedError()))


async def test_the_log_of_a_submission_names_the_job_and_its_trace() -> None:
    class Logging(Producer):
        async def send(self, encoded: EncodedJob, **options: Any) -> JobAcknowledgement:
            lines.append(LineFormatter(None).format(logging.makeLogRecord({"msg": "slow"})))
            return await super().send(encoded, **options)

    lines: list[str] = []
    headers = {"traceparent": TRACEPARENT.decode()}
    accepted = await submissions(Logging()).submit(BODY, None, headers)
    line = json.loads(lines[0])
    assert line["job_id"] == str(accepted.job.job_id)
    assert line["trace_id"] == headers["traceparent"].split("-")[1]


async def test_the_log_of_a_cancellation_names_the_job() -> None:
    class Logging(Producer):
        async def cancel(self, job_id: UUID, reason: str | None = None) -> None:
            lines.append(LineFormatter(None).format(logging.makeLogRecord({"msg": "slow"})))

    lines: list[str] = []
    job_id = uuid4()
    await submissions(Logging()).cancel(job_id)
    assert json.loads(lines[0])["job_id"] == str(job_id)


@pytest.mark.parametrize("chosen", ["key", "job_id"])
async def test_a_job_with_a_key_or_an_id_is_taken_once_without_postgres(chosen: str) -> None:
    producer = Producer()
    taking = submissions(producer)
    key = "order 17" if chosen == "key" else None
    document = JOB_DOCUMENT if key else JOB_DOCUMENT | {"job_id": str(uuid4())}
    body, another = (json.dumps(document | {"prompt": text}).encode() for text in ("a", "b"))

    first = await taking.submit(body, key, {})
    again = await taking.submit(body, key, {})
    with pytest.raises(ProblemError) as refused:
        await taking.submit(another, key, {})

    assert (first.existed, again.existed) == (False, True)
    assert producer.sent == [first.job.job_id] == [again.job.job_id]
    assert refused.value.problem.status == 409


async def test_a_key_waits_for_postgres_while_no_secret_is_known() -> None:
    producer = Producer()

    with pytest.raises(ConnectionRefusedError):
        await submissions(producer, secret=None).submit(BODY, "order 17", {})

    assert producer.sent == []


async def test_a_defect_of_the_ledger_is_no_reason_to_take_a_job_twice() -> None:
    producer = Producer()
    defect = asyncpg.UndefinedColumnError("no such column")

    with pytest.raises(asyncpg.UndefinedColumnError):
        await submissions(producer, error=defect).submit(BODY, "order 17", {})

    assert producer.sent == []


async def post(taking: Submissions, body: bytes) -> int:
    try:
        accepted = await taking.submit(body, None, {})
    except ProblemError as error:
        return error.problem.status
    return 200 if accepted.existed else 202


@pytest.mark.parametrize(
    ("kafka_works", "statuses", "at_most_s"),
    [
        (True, {200, 202}, READ_TIMEOUT_S),
        (False, {503}, READ_TIMEOUT_S + TURN_TIMEOUT_S + KAFKA_TIMEOUT_S),
    ],
)
def test_repetitions_of_one_request_do_not_queue_behind_each_other(
    kafka_works: bool, statuses: set[int], at_most_s: float
) -> None:
    """Each may take as long as Postgres and Kafka do not answer."""
    producer = Producer(frozen=not kafka_works)
    taking = Submissions(GatewaySettings(), producer, FrozenLedger())
    body = json.dumps(JOB_DOCUMENT | {"job_id": str(uuid4())}).encode()

    async def main() -> float:
        answers = await asyncio.gather(*(post(taking, body) for _ in range(100)))
        assert set(answers) == statuses
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) <= at_most_s
    assert len(producer.sent) == kafka_works


def test_a_job_that_was_just_taken_is_known_soon_although_postgres_hangs() -> None:
    taking = Submissions(GatewaySettings(), Producer(), FrozenLedger())
    body = json.dumps(JOB_DOCUMENT | {"job_id": str(uuid4())}).encode()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert await post(taking, body) == 202
        taken_s = loop.time()
        assert await post(taking, body) == 200
        return loop.time() - taken_s

    assert run_in_virtual_time(main()) == REMEMBERED_TIMEOUT_S
