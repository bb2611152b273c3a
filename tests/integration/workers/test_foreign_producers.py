"""Jobs from producers that are not ours: every codec, transactions, odd names of headers."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from niyama import kafka
from schemas import EventType, headers
from tests.support.foreign_producers import CODECS, job, publish_with_java, publish_with_kcat
from tests.support.workers import PATIENCE_S, Harness

COMPLETED = "SELECT count(*) FROM jobs WHERE status = 'completed' AND arrived_at IS NOT NULL"


async def completed(harness: Harness, jobs: Sequence[UUID]) -> None:
    ended = await harness.until_ended(*jobs)
    assert [event.type for event in ended] == [EventType.COMPLETED] * len(jobs)


async def recorded(ledger: asyncpg.Connection, jobs: Sequence[UUID]) -> None:
    """These jobs, and no others, are in the ledger as completed, with their requests."""
    async with asyncio.timeout(PATIENCE_S):
        while await ledger.fetchval(COMPLETED) != len(jobs):
            await asyncio.sleep(0.05)
    rows = await ledger.fetch("SELECT job_id FROM jobs")
    assert {row["job_id"] for row in rows} == set(jobs)


async def test_jobs_of_java_run_whatever_their_codec_unless_they_were_aborted(
    harness: Harness, ledger: asyncpg.Connection
) -> None:
    worker = await harness.worker()
    topic = harness.settings.topics.interactive.name
    modes = [f"plain:{codec}" for codec in CODECS]
    jobs = await publish_with_java(
        harness.settings.kafka_bootstrap, topic, "abort:none", *modes, "abort:lz4", "commit:zstd"
    )
    wanted = [job_id for mode, job_id in jobs.items() if "abort" not in mode]
    await completed(harness, wanted)
    await recorded(ledger, wanted)
    await worker.drain()
    # Aborted records are gaps, and so are the markers at the ends of transactions but the last.
    async with kafka.admin(harness.settings) as admin:
        commits = await admin.list_consumer_group_offsets(harness.settings.workers_group)
    assert {tp.partition: each.offset for tp, each in commits.items() if tp.topic == topic} == {
        0: len(jobs) + 2
    }
    assert not any(harness.events_of(jobs[mode]) for mode in ("abort:none", "abort:lz4"))


async def test_jobs_of_kcat_run_whatever_their_codec(
    harness: Harness, ledger: asyncpg.Connection
) -> None:
    await harness.worker()
    bootstrap, topic = harness.settings.kafka_bootstrap, harness.settings.topics.interactive.name
    jobs = [await publish_with_kcat(bootstrap, topic, codec) for codec in CODECS]
    await completed(harness, jobs)
    await recorded(ledger, jobs)


async def test_jobs_of_aiokafka_run_whatever_their_codec(harness: Harness) -> None:
    await harness.worker()
    jobs = {codec: uuid4() for codec in CODECS}
    for codec, job_id in jobs.items():
        codec_option = None if codec == "none" else codec
        async with kafka.producer(harness.settings, compression_type=codec_option) as producer:
            value = job(job_id).encode()
            await producer.send_and_wait(harness.settings.topics.interactive.name, value)
    await completed(harness, list(jobs.values()))


async def test_a_header_whose_name_is_not_utf8_holds_up_nobody(
    harness: Harness, ledger: asyncpg.Connection
) -> None:
    worker = await harness.worker()
    bootstrap, topic = harness.settings.kafka_bootstrap, harness.settings.topics.interactive.name
    odd = [
        await publish_with_kcat(bootstrap, topic, z, "-H", b"n\xffme=1") for z in ("none", "lz4")
    ]
    await harness.send(b"nonsense", headers=[("plain", b"2")])
    await completed(harness, odd)
    await recorded(ledger, odd)
    await harness.until(lambda: len(harness.dead_letters) == 1, "the dead letter")
    assert dict(harness.dead_letters[0].headers)[headers.REASON_CODE] == b"invalid_json"
    assert not worker.task.done()


async def test_a_record_that_the_disk_damaged_holds_up_nobody(
    harness: Harness,
    ledger: asyncpg.Connection,
    state_dir: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A broker serves what its log has; only its readers check that."""
    topic = harness.settings.topics.interactive.name
    before, damaged, after = uuid4(), uuid4(), uuid4()
    for job_id in (before, damaged, after):
        await harness.send(job(job_id).encode())
    [segment] = state_dir.glob(f"kafka/data/{topic}-0/*.log")
    with segment.open("r+b") as log:
        log.seek(log.read().index(str(damaged).encode()))
        log.write(b"x")
    with caplog.at_level(logging.ERROR, "niyama.fetched"):
        await harness.worker()
        await completed(harness, [before, after])
        await recorded(ledger, [before, after])
    assert f"skipped offsets 1 to 1 of {topic}/0" in caplog.text


async def test_jobs_of_an_open_transaction_wait_and_those_behind_them(harness: Harness) -> None:
    """Until it ends: at the latest after the `transaction.timeout.ms` of its producer."""
    await harness.worker()
    topic = harness.settings.topics.interactive.name
    blocking, behind = uuid4(), uuid4()
    transactional = kafka.producer(harness.settings, transactional_id=topic)
    async with transactional:
        await transactional.begin_transaction()
        await transactional.send_and_wait(topic, job(blocking).encode(), partition=0)
        await harness.send(job(behind).encode())
        elsewhere = uuid4()
        await harness.send(job(elsewhere).encode(), partition=1)
        await completed(harness, [elsewhere])
        assert not harness.events_of(behind)
        await transactional.abort_transaction()
    await completed(harness, [behind])
    assert not harness.events_of(blocking)


async def test_cancellations_are_read_past_aborted_and_open_transactions(harness: Harness) -> None:
    control = harness.settings.topics.control.name
    transactional = kafka.producer(harness.settings, transactional_id=control)
    async with transactional:
        await transactional.begin_transaction()
        await transactional.send_and_wait(control, b"aborted", key=b"k")
        await transactional.abort_transaction()
        await harness.worker()
        await transactional.begin_transaction()
        await transactional.send_and_wait(control, b"open", key=b"k")
        await harness.worker()
        await transactional.abort_transaction()
    await completed(harness, [await harness.publish()])
