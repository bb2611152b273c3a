"""Records that nobody should publish, sprinkled into every topic that is read.

A kind that carries a valid job is acknowledged like any other: the job has to end as the kind says.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from niyama import KafkaSettings, kafka
from schemas import JobRequest, PoolTopics
from tests.chaos.journal import AcknowledgedJob, Expectation, Journal
from tests.chaos.workload import REPLY_TOPICS, output_of

HEADER_BYTES = 7 * 2**20
FAR_FUTURE_MS = 30 * 60 * 1000
"""A broker refuses timestamps more than an hour ahead."""
MEAN_GAP_S = 1.5
RECENT_JOBS = 50
RUNNING_JOBS = 5
"""Of the jobs that were acknowledged, the last few run most probably."""
NO_RUN: frozenset[str] = frozenset()
CODECS = ("gzip", "snappy", "lz4", "zstd")
TRANSACTION_MS = 5_000
"""After which a broker aborts a transaction that its own outage left open."""


@dataclass(frozen=True, slots=True)
class HostileRecord:
    topic: str
    value: bytes | None
    key: bytes | None = b"hostile"
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int | None = None
    codec: str | None = None
    """How its producer compresses it."""
    aborted: bool = False
    """Published in a transaction that is aborted."""
    job_id: UUID | None = None
    """The job that it carries, if that has to end somehow."""
    expectation: Expectation | None = None
    """What has to become of it."""
    repeats: UUID | None = None
    """The job of which it is one more record."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a hostile record is made from."""

    choose: random.Random
    topics: PoolTopics
    engine: str
    model: str
    running: Sequence[AcknowledgedJob]
    """Jobs that were acknowledged a moment ago."""
    published: Sequence[JobRequest]
    """Jobs that the load published by itself, to be published again."""

    def new_id(self) -> UUID:
        return UUID(int=self.choose.getrandbits(128), version=4)

    def job_topic(self) -> str:
        return self.choose.choice(self.topics.jobs).name

    def job(self, **changes: Any) -> dict[str, Any]:
        """A valid job as a JSON document, with `changes`."""
        fields = {
            "schema_version": 1,
            "job_id": str(self.new_id()),
            "model": self.model,
            "prompt": "hostile",
            "qos": "chat",
            "max_tokens": 8,
            "ignore_eos": True,
            "tenant": "hostile",
        }
        return fields | changes

    def event(self, **changes: Any) -> dict[str, Any]:
        """A valid event of a job that nobody submitted, with `changes`."""
        fields = {
            "schema_version": 1,
            "event_id": str(self.new_id()),
            "job_id": str(self.new_id()),
            "type": "started",
            "at": "2026-11-21T09:30:00Z",
            "attempt": 1,
            "worker_id": "hostile",
            "pool": "default",
        }
        return fields | changes

    def control(self, **changes: Any) -> dict[str, Any]:
        fields = {
            "schema_version": 1,
            "job_id": str(self.new_id()),
            "requested_at": "2026-11-21T09:30:00Z",
        }
        return fields | changes


Make = Callable[[Setting], HostileRecord]


@dataclass(frozen=True, slots=True)
class HostileKind:
    name: str
    make: Make = field(compare=False)
    known_failure: str = ""
    """Why the present code does not survive it; then it is off by default."""
    engine: str | None = None
    """Only with this engine."""


KINDS: dict[str, HostileKind] = {}


def _kind(name: str, known_failure: str = "", engine: str | None = None) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        KINDS[name] = HostileKind(name, make, known_failure, engine)
        return make

    return register


def _encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def _valid(setting: Setting, document: dict[str, Any], **record: Any) -> HostileRecord:
    """A record of a job that has to complete like any other, unless `record` says otherwise."""
    job_id = UUID(document["job_id"])
    if "expectation" not in record:
        output = output_of(JobRequest.model_validate(document), setting.engine)
        reply_topic = document.get("reply_topic")
        record["expectation"] = Expectation(output=output, reply_topic=reply_topic)
    return HostileRecord(
        topic=setting.topics.interactive.name,
        value=_encoded(document),
        key=document["job_id"].encode(),
        job_id=job_id,
        **record,
    )


# ---- bytes that are no message at all, in any topic


def _anywhere(setting: Setting) -> str:
    topics = setting.topics
    return setting.choose.choice([*topics.jobs, topics.events, topics.control]).name


@_kind("null-value")
def _null_value(setting: Setting) -> HostileRecord:
    return HostileRecord(_anywhere(setting), None)


@_kind("empty-value")
def _empty_value(setting: Setting) -> HostileRecord:
    return HostileRecord(_anywhere(setting), b"")


@_kind("no-key")
def _no_key(setting: Setting) -> HostileRecord:
    topics = setting.topics  # not the control topic: what is compacted needs keys
    topic = setting.choose.choice([*topics.jobs, topics.events]).name
    return HostileRecord(topic, b"{}", key=None)


@_kind("not-utf8")
def _not_utf8(setting: Setting) -> HostileRecord:
    return HostileRecord(_anywhere(setting), setting.choose.randbytes(200), key=b"\xff\x00\xfe")


@_kind("cut-off-json")
def _cut_off_json(setting: Setting) -> HostileRecord:
    whole = _encoded(setting.job())
    return HostileRecord(_anywhere(setting), whole[: setting.choose.randrange(1, len(whole))])


@_kind("not-an-object")
def _not_an_object(setting: Setting) -> HostileRecord:
    value = setting.choose.choice([b"42", b"null", b"[]", b'"text"', b"NaN", b"-1e999", b"true"])
    return HostileRecord(_anywhere(setting), value)


@_kind("deep-nesting")
def _deep_nesting(setting: Setting) -> HostileRecord:
    opening = setting.choose.choice([b"[", b'{"job_id":'])
    return HostileRecord(_anywhere(setting), opening * 100_000)


@_kind("deep-nesting-in-a-field")
def _deep_nesting_in_a_field(setting: Setting) -> HostileRecord:
    nested = b"[" * 50_000 + b"]" * 50_000
    value = _encoded(setting.job(metadata="NESTED")).replace(b'"NESTED"', nested)
    return HostileRecord(setting.job_topic(), value)


@_kind("two-megabytes")
def _two_megabytes(setting: Setting) -> HostileRecord:
    return HostileRecord(setting.job_topic(), _encoded(setting.job(prompt="x" * 2**21)))


# ---- jobs that are refused


@_kind("refused-job")
def _refused_job(setting: Setting) -> HostileRecord:
    changes: dict[str, Any] = setting.choose.choice(
        [
            {"schema_version": 2},
            {"qos": "gold"},
            {"qos": {"ttft_ms": -1, "tbt_ms": 1e308}},
            {"model": "another"},
            {"max_tokens": 2**63},
            {"max_tokens": -1},
            {"temperature": "hot"},
            {"unknown": None},
            {"input_ids": [1]},
            {"prompt": None},
            {"prompt": "long " * 9000},
            {"metadata": {"key": "x" * 513}},
        ]
    )
    document = setting.job(**changes)
    return HostileRecord(
        topic=setting.job_topic(),
        value=_encoded(document),
        key=document["job_id"].encode(),
        expectation=Expectation(statuses=frozenset({"failed"})),
        job_id=UUID(document["job_id"]),
    )


@_kind("odd-job-id")
def _odd_job_id(setting: Setting) -> HostileRecord:
    odd: Any = setting.choose.choice([None, 7, "", "x", [], {}, "0" * 4096, "\x00"])
    return HostileRecord(setting.job_topic(), _encoded(setting.job(job_id=odd, qos="gold")))


# ---- jobs that are valid, in odd records


@_kind("nul-in-text")
def _nul_in_text(setting: Setting) -> HostileRecord:
    document = setting.job(prompt="a\x00b \ud7ff", metadata={"nul": "\x00", "\x00": "\\u0000"})
    return _valid(setting, document)


@_kind("odd-timestamp")
def _odd_timestamp(setting: Setting) -> HostileRecord:
    ahead_ms = int(time.time() * 1000) + FAR_FUTURE_MS
    return _valid(setting, setting.job(), timestamp_ms=setting.choose.choice([1, ahead_ms]))


@_kind("odd-headers")
def _odd_headers(setting: Setting) -> HostileRecord:
    headers = (
        ("", b""),
        ("niyama-reason", b"\xff\xfe"),
        ("traceparent", b"\xff" * 100),
        ("traceparent", b"again"),
        ("x" * 1000, b"y" * 10_000),
    )
    topic = setting.choose.choice(REPLY_TOPICS)
    return _valid(setting, setting.job(reply_topic=topic), headers=headers)


@_kind("null-header")
def _null_header(setting: Setting) -> HostileRecord:
    return _valid(setting, setting.job(), headers=(("x-anything", None),))


@_kind("null-header-of-an-invalid-job", "point 1: ends each worker that reads it")
def _null_header_of_an_invalid_job(setting: Setting) -> HostileRecord:
    return replace(_refused_job(setting), headers=(("x-anything", None),))


@_kind("null-traceparent", "point 1: the gateway ends each time it reads the job's end")
def _null_traceparent(setting: Setting) -> HostileRecord:
    topic = setting.choose.choice(REPLY_TOPICS)
    return _valid(setting, setting.job(reply_topic=topic), headers=(("traceparent", None),))


@_kind("nul-in-tracestate", "point 1: Postgres refuses the end, the job stays open")
def _nul_in_tracestate(setting: Setting) -> HostileRecord:
    topic = setting.choose.choice(REPLY_TOPICS)
    return _valid(setting, setting.job(reply_topic=topic), headers=(("tracestate", b"a\x00b"),))


@_kind("huge-header-of-an-invalid-job", "point 1: a dead letter that the broker refuses")
def _huge_header_of_an_invalid_job(setting: Setting) -> HostileRecord:
    return replace(_refused_job(setting), headers=(("x-huge", b"x" * HEADER_BYTES),))


@_kind("huge-header")
def _huge_header(setting: Setting) -> HostileRecord:
    return _valid(setting, setting.job(), headers=(("x-huge", b"x" * HEADER_BYTES),))


@_kind("json-schema", "point 0: accepted, then refused by the worker", engine="sglang")
def _json_schema(setting: Setting) -> HostileRecord:
    schema = {"name": "answer", "schema": {"type": "object"}}
    document = setting.job(response_format={"type": "json_schema", "json_schema": schema})
    return _valid(setting, document, expectation=Expectation())  # its length is the grammar's


@_kind("extreme-top-k", "point 5: kills the engine, three times", engine="sglang")
def _extreme_top_k(setting: Setting) -> HostileRecord:
    either = frozenset({"completed", "failed"})
    return _valid(setting, setting.job(top_k=2**31), expectation=Expectation(statuses=either))


@_kind("undeliverable-reply")
def _undeliverable_reply(setting: Setting) -> HostileRecord:
    """An allowed topic whose name is too long for Kafka; no other reply may wait for it."""
    document = setting.job(reply_topic="niyama-replies." + "x" * 234)
    return _without_reply(setting, document)


@_kind("reply-to-our-own-topic")
def _reply_to_our_own_topic(setting: Setting) -> HostileRecord:
    return _without_reply(setting, setting.job(reply_topic=setting.topics.control.name))


def _without_reply(setting: Setting, document: dict[str, Any]) -> HostileRecord:
    """The job completes like any other, and its reply is undeliverable."""
    output = output_of(JobRequest.model_validate(document), setting.engine)
    return _valid(setting, document, expectation=Expectation(output=output))


@_kind("compressed")
def _compressed(setting: Setting) -> HostileRecord:
    return _valid(setting, setting.job(), codec=setting.choose.choice(CODECS))


@_kind("aborted-transaction")
def _aborted_transaction(setting: Setting) -> HostileRecord:
    return _valid(setting, setting.job(), aborted=True, expectation=Expectation(statuses=NO_RUN))


# ---- records about jobs that belong to somebody else; those must end as if nothing had happened


@_kind("duplicate-record")
def _duplicate_record(setting: Setting) -> HostileRecord:
    """The same record once more, as a producer without idempotence sends it."""
    if not setting.published:
        return _null_value(setting)
    job = setting.choose.choice(setting.published[-RECENT_JOBS:])
    interactive = job.qos in ("chat", "q1")
    topic = setting.topics.interactive if interactive else setting.topics.batch
    key = str(job.job_id).encode()
    return HostileRecord(topic.name, job.to_bytes(), key=key, repeats=job.job_id)


def _about_another(setting: Setting, topic: str, **changes: Any) -> HostileRecord:
    if not setting.running:
        return _null_value(setting)
    job_id = setting.choose.choice(setting.running).job_id
    value = _encoded(setting.job(job_id=str(job_id), **changes))
    return HostileRecord(topic, value, str(job_id).encode(), repeats=job_id)


@_kind("foreign-id-malformed", "point 7: ends a running job as failed")
def _foreign_id_malformed(setting: Setting) -> HostileRecord:
    return _about_another(setting, setting.topics.interactive.name, max_tokens=0)


@_kind("foreign-id-wrong-model", "point 7: ends a running job as failed")
def _foreign_id_wrong_model(setting: Setting) -> HostileRecord:
    return _about_another(setting, setting.topics.interactive.name, model="another")


@_kind("foreign-id-other-topic", "point 7: replaces the result and the reply of a queued job")
def _foreign_id_other_topic(setting: Setting) -> HostileRecord:
    return _about_another(setting, setting.topics.relegated.name, max_tokens=3)


# ---- control


@_kind("odd-control")
def _odd_control(setting: Setting) -> HostileRecord:
    document = setting.choose.choice(
        [
            setting.control(),
            setting.control(requested_at="0001-01-01T00:00:00Z"),
            setting.control(requested_at="9999-12-31T23:59:59Z"),
            setting.control(requested_at="2026-11-21T09:30:00"),
            setting.control(requested_at=0),
            setting.control(requested_at=2**62),
            setting.control(action="destroy"),
            setting.control(reason="\x00" * 100),
            setting.control(reason="x" * 100_000),
            setting.control(job_id=None),
        ]
    )
    return HostileRecord(setting.topics.control.name, _encoded(document))


@_kind("control-of-year-1", "point 2: ends every worker, for seven days")
def _control_of_year_1(setting: Setting) -> HostileRecord:
    # In UTC that is before year 1, or after year 9999.
    edges = ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]
    document = setting.control(requested_at=setting.choose.choice(edges))
    return HostileRecord(setting.topics.control.name, _encoded(document))


# ---- events of jobs that nobody submitted


@_kind("odd-event")
def _odd_event(setting: Setting) -> HostileRecord:
    error = {"code": "engine_error", "message": "\x00"}
    document = setting.choose.choice(
        [
            setting.event(),
            setting.event(type="completed", result={"text": "a\x00b", "finish_reason": "stop"}),
            setting.event(type="failed", error=error),
            setting.event(type="completed"),
            setting.event(attempt=2**31),
            setting.event(attempt=2**63),
            setting.event(attempt=10**30),
            setting.event(usage={"prompt_tokens": 2**63}),
            setting.event(largest_gap_ms=1e308),
            setting.event(at="0001-01-01T00:00:00Z"),
            setting.event(at="9999-12-31T23:59:59Z"),
            setting.event(at="0001-01-01T00:00:00+01:00"),
            setting.event(at="9999-12-31T23:59:59-01:00"),
            setting.event(reason="\x00\ud800"),
            setting.event(worker_id="\x00"),
            setting.event(type="exploded"),
        ]
    )
    return HostileRecord(setting.topics.events.name, _encoded(document))


def default_kinds(engine: str) -> list[str]:
    """What the present code is meant to survive."""
    return [
        kind.name
        for kind in KINDS.values()
        if kind.engine in (None, engine) and not kind.known_failure
    ]


def all_kinds(engine: str) -> list[str]:
    return [kind.name for kind in KINDS.values() if kind.engine in (None, engine)]


@dataclass(frozen=True, slots=True)
class PlannedRecord:
    at_s: float
    """From the start of the load."""
    kind: str
    salt: str
    """Seeds the record's own choices."""


def plan_records(seed: int, duration_s: float, kinds: Collection[str]) -> list[PlannedRecord]:
    """One record every MEAN_GAP_S or so; the same for the same arguments."""
    return list(_planned(random.Random(f"{seed}/hostile"), seed, duration_s, sorted(kinds)))


def _planned(
    choose: random.Random, seed: int, duration_s: float, kinds: list[str]
) -> Iterator[PlannedRecord]:
    at_s = choose.expovariate(1 / MEAN_GAP_S)
    while kinds and at_s < duration_s:
        yield PlannedRecord(at_s, choose.choice(kinds), f"{seed}/{at_s}")
        at_s += choose.expovariate(1 / MEAN_GAP_S)


@dataclass(frozen=True, slots=True)
class SentRecord:
    """A hostile record that Kafka took, or did not."""

    kind: str
    topic: str
    at_s: float
    """UTC epoch seconds."""
    acknowledged: bool


class HostileProducer:
    """Publishes a plan's records, past the client library."""

    def __init__(
        self,
        settings: KafkaSettings,
        journal: Journal,
        published: Sequence[JobRequest],
        engine: str,
        model: str,
    ) -> None:
        self.sent: list[SentRecord] = []
        self._settings = settings
        self._journal = journal
        self._published = published
        self._engine = engine
        self._model = model

    async def run(self, plan: list[PlannedRecord]) -> None:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with AsyncExitStack() as stack:
            producers = {
                codec: await stack.enter_async_context(
                    kafka.producer(self._settings, compression_type=codec)
                )
                for codec in (None, *CODECS)
            }
            async with asyncio.TaskGroup() as tasks:
                for planned in plan:
                    await asyncio.sleep(start_s + planned.at_s - loop.time())
                    record = KINDS[planned.kind].make(self._setting(planned))
                    send = _abort if record.aborted else _send
                    sending = send(self._settings, producers[record.codec], record)
                    tasks.create_task(self._record(planned, record, sending))

    def _setting(self, planned: PlannedRecord) -> Setting:
        return Setting(
            random.Random(planned.salt),
            self._settings.topics,
            self._engine,
            self._model,
            running=list(self._journal.jobs.values())[-RUNNING_JOBS:],
            published=self._published,
        )

    async def _record(
        self, planned: PlannedRecord, record: HostileRecord, sending: Coroutine[Any, Any, None]
    ) -> None:
        asked_at_s = time.time()
        acknowledged = True
        try:
            await sending
        except KafkaError:
            acknowledged = False
        self.sent.append(SentRecord(planned.kind, record.topic, asked_at_s, acknowledged))
        if record.repeats:
            self._journal.published_twice.add(record.repeats)
        if acknowledged and record.expectation and record.job_id:
            origin = f"hostile {planned.kind}"
            self._journal.acknowledge(
                AcknowledgedJob(record.job_id, origin, asked_at_s, record.expectation)
            )


async def _send(_: KafkaSettings, producer: AIOKafkaProducer, record: HostileRecord) -> None:
    await producer.send_and_wait(
        record.topic,
        record.value,
        key=record.key,
        headers=list(record.headers),
        timestamp_ms=record.timestamp_ms,
    )


async def _abort(settings: KafkaSettings, _: AIOKafkaProducer, record: HostileRecord) -> None:
    """In a transaction of its own, by a producer of its own: an outage may spoil both."""
    transactional = kafka.producer(
        settings,
        transactional_id=f"chaos-{record.job_id}",
        transaction_timeout_ms=TRANSACTION_MS,
    )
    async with transactional:
        await transactional.begin_transaction()
        await _send(settings, transactional, record)
        await transactional.abort_transaction()
