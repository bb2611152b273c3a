"""Submits the planned jobs, and writes down what was acknowledged."""

import asyncio
import contextlib
import itertools
import time
from http import HTTPStatus
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx
from aiokafka.errors import KafkaError

from niyama import JobRequest, KafkaSettings, Producer
from schemas.event import Source
from tests.chaos.journal import AcknowledgedJob, Journal
from tests.chaos.workload import Door, PlannedJob, chat_service_s, expectation_of

HTTP_TIMEOUT_S = 12.0
RETRY_INTERVAL_S = 0.3
GIVE_UP_AFTER_S = 180.0
"""Longer than all faults in a row are meant to take."""
PASSING = (HTTPStatus.SERVICE_UNAVAILABLE,)
"""Answers after which a client is meant to try again."""


class _RefusedError(Exception):
    """The API does not take the job, and would not take it later."""


class Load:
    """The clients of a run. Use it as an async context manager."""

    def __init__(
        self, settings: KafkaSettings, gateway_urls: tuple[str, ...], journal: Journal, engine: str
    ) -> None:
        self._producer = Producer(settings)
        self._apis = [
            httpx.AsyncClient(base_url=url, timeout=HTTP_TIMEOUT_S, trust_env=False)
            for url in gateway_urls
        ]
        self._journal = journal
        self._engine = engine
        self.published: list[JobRequest] = []
        """What was published straight to Kafka, and acknowledged."""
        self._sources: dict[UUID, Source] = {}

    async def __aenter__(self) -> Self:
        await self._producer.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for api in self._apis:
            await api.aclose()
        await self._producer.__aexit__(kind, error, traceback)

    async def run(self, jobs: list[PlannedJob]) -> None:
        """Submit every job at its time; return when each is acknowledged or given up."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for job in jobs:
                await asyncio.sleep(start_s + job.at_s - loop.time())
                tasks.create_task(self._submit(job))

    async def _submit(self, planned: PlannedJob) -> None:
        asked_at_s = time.time()
        try:
            job_id = await self._enter(planned)
        except _RefusedError:
            job_id = None
        if job_id is None:
            self._journal.unconfirmed[planned.door] += 1
            return
        expectation = expectation_of(planned, self._engine)
        service_s = chat_service_s(planned, self._engine)
        self._journal.acknowledge(
            AcknowledgedJob(
                job_id,
                planned.door,
                asked_at_s,
                expectation,
                service_s,
                self._sources.get(job_id),
            )
        )
        if planned.door is Door.HTTP_REPEATED:
            await self._repeat(planned, job_id)
        if planned.cancel_after_s is not None:
            await asyncio.sleep(planned.cancel_after_s)
            await self._cancel(planned, job_id)

    async def _enter(self, planned: PlannedJob) -> UUID | None:
        match planned.door:
            case Door.KAFKA:
                return await self._publish(planned)
            case Door.HTTP:
                return await self._post(planned, planned.gateway)
            case Door.HTTP_KEY | Door.HTTP_REPEATED:
                return await self._post_until_taken(planned, planned.gateway)
            case Door.HTTP_RACED:
                return await self._post_to_both(planned)

    async def _publish(self, planned: PlannedJob) -> UUID | None:
        try:
            acknowledged = await self._producer.publish(planned.request)
        except KafkaError:
            return None  # it may be there or not; a second record would be a second job
        self.published.append(planned.request)
        self._sources[acknowledged.job_id] = Source(
            topic=acknowledged.topic,
            partition=acknowledged.partition,
            offset=acknowledged.offset,
        )
        return acknowledged.job_id

    async def _post(self, planned: PlannedJob, gateway: int) -> UUID | None:
        """One try. None when it has to be made again. Raises _RefusedError."""
        headers = {"Idempotency-Key": planned.key} if planned.key else {}
        body = planned.request.model_dump_json(exclude_none=True)
        try:
            answer = await self._apis[gateway].post(
                "/v1/jobs", content=body, headers={"Content-Type": "application/json", **headers}
            )
        except httpx.TransportError:
            return None
        if answer.is_success:
            return UUID(answer.json()["job_id"])
        self._note(answer)
        if answer.is_client_error:
            raise _RefusedError
        return None

    async def _post_until_taken(self, planned: PlannedJob, gateway: int) -> UUID | None:
        give_up_s = time.monotonic() + GIVE_UP_AFTER_S
        for each in itertools.cycle([gateway, 1 - gateway]):
            job_id = await self._post(planned, each)
            if job_id is not None or time.monotonic() > give_up_s:
                return job_id
            await asyncio.sleep(RETRY_INTERVAL_S)
        raise AssertionError("unreachable: the cycle does not end")

    async def _post_to_both(self, planned: PlannedJob) -> UUID | None:
        first, second = await asyncio.gather(
            *(self._post_until_taken(planned, gateway) for gateway in (0, 1))
        )
        if first is not None and second is not None:
            self._same_job(planned, first, second)
        return first or second

    async def _repeat(self, planned: PlannedJob, job_id: UUID) -> None:
        await asyncio.sleep(planned.repeat_after_s)
        again = await self._post_until_taken(planned, 1 - planned.gateway)
        if again is not None:
            self._same_job(planned, job_id, again)

    def _same_job(self, planned: PlannedJob, first: UUID, second: UUID) -> None:
        if first != second:
            self._journal.surprises.append(f"key {planned.key} gave jobs {first} and {second}")

    async def _cancel(self, planned: PlannedJob, job_id: UUID) -> None:
        if planned.cancel_door is Door.KAFKA:
            with contextlib.suppress(KafkaError):  # nobody promised that it is cancelled
                await self._producer.cancel(job_id, reason="chaos")
            return
        for _ in range(20):
            try:
                answer = await self._apis[planned.gateway].delete(f"/v1/jobs/{job_id}")
            except httpx.TransportError:
                pass
            else:
                if answer.is_success:
                    return
                if answer.status_code != HTTPStatus.NOT_FOUND:  # the ledger may be behind
                    self._note(answer)
            await asyncio.sleep(RETRY_INTERVAL_S)

    def _note(self, answer: httpx.Response) -> None:
        if answer.status_code not in PASSING:
            request = f"{answer.request.method} {answer.request.url.path}"
            self._journal.surprises.append(
                f"{request} answered {answer.status_code}: {answer.text[:300]}"
            )
