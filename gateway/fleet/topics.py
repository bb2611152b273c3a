"""What is said of each topic in the AsyncAPI document, beside what FastStream derives from types.

The document describes Niyama as a whole: it receives what producers send, and sends what they can
receive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from schemas import JobControl, JobEvent, JobRequest, LoadReport, PoolTopics, TokenChunk, TopicSpec
from schemas import headers as header_names
from schemas.message import Message
from schemas.reply import ReplySent

Action = Literal["send", "receive"]
Json = Mapping[str, Any]

_JOB_ID: Json = {"type": "string", "format": "uuid", "description": "The job's id"}
_JOB_KEY: Json = {
    "type": "string",
    "description": "The job's id; or whatever keeps related prompts on one replica, such as a "
    "session",
}
_WORKER_KEY: Json = {"type": "string", "description": "<pool>/<worker id>"}
_ANY_KEY: Json = {"description": "The refused record's own"}
_TRACE: Json = {
    "traceparent": {"type": "string", "description": "W3C trace context"},
    "tracestate": {"type": "string", "description": "W3C trace context"},
}
_REFUSAL: Json = {
    header_names.REASON: {"type": "string", "description": "Why, for people"},
    header_names.REASON_CODE: {"type": "string", "description": "Why, for programs"},
    header_names.SOURCE_TOPIC: {"type": "string", "description": "Where the record was read"},
    header_names.SOURCE_PARTITION: {"type": "string", "description": "A decimal number"},
    header_names.SOURCE_OFFSET: {"type": "string", "description": "A decimal number"},
    header_names.WORKER_ID: {"type": "string", "description": "Who refused it"},
    header_names.DROPPED_HEADERS: {
        "type": "string",
        "description": "How many of the record's own headers there was no room for",
    },
}


@dataclass(frozen=True, slots=True)
class Described:
    """One topic, and what is done with it."""

    topic: TopicSpec
    message: type[Message] | None
    """None: any bytes."""
    actions: tuple[Action, ...]
    key: Json
    headers: Json
    summary: str
    has_job_id: bool = True
    """In its message, which belongs to others of the same job by it."""


def described(topics: PoolTopics) -> list[Described]:
    """Every topic but those for replies, whose names are the operator's."""
    take: tuple[Action, ...] = ("receive",)
    tell: tuple[Action, ...] = ("send",)
    jobs = [
        Described(topic, JobRequest, take, _JOB_KEY, _TRACE, "A producer submits a job")
        for topic in (topics.interactive, topics.batch)
    ]
    return [
        *jobs,
        Described(
            topics.relegated, JobRequest, take, _JOB_KEY, _TRACE, "Jobs that any replica may take"
        ),
        Described(topics.control, JobControl, take, _JOB_ID, {}, "A producer cancels a job"),
        Described(topics.events, JobEvent, tell, _JOB_ID, _TRACE, "What happened to a job"),
        Described(topics.tokens, TokenChunk, tell, _JOB_ID, _TRACE, "A job's streamed output"),
        Described(
            topics.dead_letters,
            None,
            tell,
            _ANY_KEY,
            {**_TRACE, **_REFUSAL},
            "A record that nobody could use, byte for byte",
            has_job_id=False,
        ),
        Described(
            topics.replies_sent,
            ReplySent,
            ("send", "receive"),
            _JOB_ID,
            {},
            "Gateways note for each other which replies were sent",
        ),
        Described(
            topics.load,
            LoadReport,
            ("send", "receive"),
            _WORKER_KEY,
            {},
            "A worker says how busy it is; an empty record: it has ended in order",
            has_job_id=False,
        ),
    ]
