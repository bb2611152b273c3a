"""What Niyama receives and sends: the operations of the AsyncAPI document.

The document describes Niyama as a whole: it receives what producers send, and sends what they can
receive.
"""

from collections.abc import Iterator, Mapping
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


REPLIES = "niyama-replies"
"""What the names of reply topics begin with, unless the operator allows others."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One topic, and what Niyama does with it."""

    action: Action
    topic: TopicSpec | None
    """None: one that a job names for its reply, and Niyama does not create."""
    message: type[Message] | None
    """None: any bytes."""
    key: Json
    headers: Json
    summary: str
    has_job_id: bool = True
    """In its message, which belongs to others of the same job by it."""

    @property
    def name(self) -> str:
        return f"{self.action}:{REPLIES if self.topic is None else self.topic.name}"

    @property
    def address(self) -> str:
        return f"{REPLIES}.{{name}}" if self.topic is None else self.topic.name

    @property
    def message_name(self) -> str:
        return "DeadLetter" if self.message is None else self.message.__name__

    @property
    def description(self) -> str:
        """Of the topic."""
        if self.topic is not None:
            return self.topic.description
        return (
            "Terminal events of jobs that named this topic. The operator says which topics jobs "
            "may name (--reply-topics); these are the default."
        )


def operations(topics: PoolTopics) -> Iterator[Operation]:
    """All of them."""
    yield from _of_jobs(topics)
    yield Operation(
        "send", topics.dead_letters, None, _ANY_KEY, {**_TRACE, **_REFUSAL},
        "A record that nobody could use, byte for byte", has_job_id=False,
    )  # fmt: skip
    yield Operation(
        "send", topics.replies_sent, ReplySent, _JOB_ID, {},
        "A gateway notes for the others which replies were sent",
    )  # fmt: skip
    yield Operation(
        "receive", topics.replies_sent, ReplySent, _JOB_ID, {},
        "A gateway learns which replies others have sent",
    )  # fmt: skip
    yield Operation(
        "send", topics.load, LoadReport, _WORKER_KEY, {},
        "A worker says how busy it is; an empty record: it has ended in order", has_job_id=False,
    )  # fmt: skip
    yield Operation(
        "receive", topics.load, LoadReport, _WORKER_KEY, {},
        "A gateway learns how busy each worker is", has_job_id=False,
    )  # fmt: skip


def _of_jobs(topics: PoolTopics) -> Iterator[Operation]:
    submitted, relegated = "A producer submits a job", "A job that any replica may take"
    yield Operation("receive", topics.interactive, JobRequest, _JOB_KEY, _TRACE, submitted)
    yield Operation("receive", topics.batch, JobRequest, _JOB_KEY, _TRACE, submitted)
    yield Operation("receive", topics.relegated, JobRequest, _JOB_KEY, _TRACE, relegated)
    yield Operation("receive", topics.control, JobControl, _JOB_ID, {}, "A producer cancels a job")
    yield Operation("send", topics.events, JobEvent, _JOB_ID, _TRACE, "Something happened to a job")
    yield Operation("send", topics.tokens, TokenChunk, _JOB_ID, _TRACE, "A job's streamed output")
    ended = "A job has ended: its terminal event, once"
    yield Operation("send", None, JobEvent, _JOB_ID, _TRACE, ended)
