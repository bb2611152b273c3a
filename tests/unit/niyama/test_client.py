"""A job is encoded once, with its id and for the topic of its kind."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from niyama import JobRequest, KafkaSettings, NotConnectedError, Producer, QosTargets, Task
from schemas import Kind, decode_job
from schemas.job import MAX_JOB_BYTES, JobTooLargeError
from schemas.qos import UnknownQosClassError


@pytest.fixture
def producer() -> Producer:
    return Producer(KafkaSettings(pool="tiny"))


def test_an_encoded_job_is_what_a_worker_decodes(producer: Producer) -> None:
    encoded = producer.encode(JobRequest(model="m", prompt="Hello", qos="chat"))

    assert decode_job(encoded.value) == encoded.job
    assert encoded.job.job_id == encoded.job_id
    assert encoded.job_id.version == 7


def test_a_job_keeps_the_id_that_it_has(producer: Producer) -> None:
    job_id = uuid4()

    encoded = producer.encode(JobRequest(job_id=job_id, model="m", prompt="Hello", qos="chat"))

    assert encoded.job_id == job_id


@pytest.mark.parametrize(
    ("qos", "kind", "topic"),
    [
        ("chat", Kind.INTERACTIVE, "niyama.tiny.interactive"),
        (QosTargets(ttlt_s=60), Kind.BATCH, "niyama.tiny.batch"),
    ],
)
def test_the_kind_of_a_job_decides_its_topic(
    producer: Producer, qos: str | QosTargets, kind: Kind, topic: str
) -> None:
    encoded = producer.encode(JobRequest(model="m", prompt="Hello", qos=qos))

    assert (encoded.qos.kind, encoded.topic) == (kind, topic)


def test_the_calls_of_a_task_have_one_key_and_other_jobs_one_each(producer: Producer) -> None:
    task = Task(id="trip-17", deadline=datetime(2026, 11, 22, 10, tzinfo=UTC))
    calls = [
        producer.encode(JobRequest(model="m", prompt="Hello", qos=QosTargets(task=task)))
        for _ in range(2)
    ]
    chat = producer.encode(JobRequest(model="m", prompt="Hello", qos="chat"))

    assert [call.key for call in calls] == [b"trip-17", b"trip-17"]
    assert chat.key == str(chat.job_id).encode()


def test_a_job_of_an_unknown_class_or_too_large_is_not_encoded(producer: Producer) -> None:
    with pytest.raises(UnknownQosClassError, match="no-such-class"):
        producer.encode(JobRequest(model="m", prompt="Hello", qos="no-such-class"))
    with pytest.raises(JobTooLargeError, match=f"at most {MAX_JOB_BYTES:,}"):
        producer.encode(JobRequest(model="m", prompt="x" * MAX_JOB_BYTES, qos="chat"))


async def test_a_producer_that_is_not_connected_says_how_to_connect_it(producer: Producer) -> None:
    with pytest.raises(NotConnectedError, match="async with Producer"):
        await producer.cancel(UUID(int=1))
