"""The jobs of a run, drawn from its seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from uuid import UUID

from schemas import ChatMessage, JobRequest
from tests.chaos.journal import Expectation, Output, digest

REPLY_TOPICS = tuple(f"niyama-replies.chaos-{number}" for number in range(3))
DELETED_REPLY_TOPIC = "niyama-replies.chaos-deleted"
"""Deleted and made again now and then, with the replies in it."""
ALL_REPLY_TOPICS = (*REPLY_TOPICS, DELETED_REPLY_TOPIC)
NULL_TEXT = "null "
"""What the null engine generates for each token."""
NULL_BYTES_PER_TOKEN = 4
TOKEN_DELAY_MS = 10.0


class Door(StrEnum):
    """How a job is submitted."""

    KAFKA = "kafka"
    HTTP = "http"
    """Without a key: sent once, whatever the answer."""
    HTTP_KEY = "http-key"
    """Sent again with the same key, at either gateway, until it is accepted."""
    HTTP_REPEATED = "http-repeated"
    """Accepted by one gateway, then sent to the other as well."""
    HTTP_RACED = "http-raced"
    """Sent to both gateways at the same time."""


_DOOR_WEIGHTS = {
    Door.KAFKA: 45,
    Door.HTTP: 10,
    Door.HTTP_KEY: 30,
    Door.HTTP_REPEATED: 10,
    Door.HTTP_RACED: 5,
}


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """What jobs for an engine look like."""

    model: str
    max_tokens: tuple[int, int]
    prompt_characters: tuple[int, int]
    token_s: float
    """Roughly, of one generated token."""
    predictable: bool
    """Whether text and prompt tokens follow from the request."""


ENGINES = {
    "null": EngineProfile("null", (5, 300), (4, 4000), TOKEN_DELAY_MS / 1000, predictable=True),
    "sglang": EngineProfile("niyama-tiny", (4, 24), (20, 400), 0.25, predictable=False),
}


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job, when and how it is submitted, and when it is cancelled, if it is."""

    at_s: float
    """From the start of the load."""
    request: JobRequest
    door: Door
    gateway: int
    """The gateway that is asked first."""
    key: str | None = None
    repeat_after_s: float = 0.0
    cancel_after_s: float | None = None
    """From the acknowledgement."""
    cancel_door: Door = Door.KAFKA


def plan_jobs(seed: int, count: int, duration_s: float, engine: str) -> list[PlannedJob]:
    """`count` jobs that arrive at random over `duration_s`; the same for the same arguments."""
    choose = random.Random(f"{seed}/jobs")
    gaps = [choose.expovariate(1) for _ in range(count + 1)]
    scale = duration_s / sum(gaps)
    arrivals = [moment * scale for moment in accumulate(gaps[:-1])]
    return list(_planned(choose, seed, arrivals, ENGINES[engine]))


def _planned(
    choose: random.Random, seed: int, arrivals: list[float], engine: EngineProfile
) -> Iterator[PlannedJob]:
    doors, weights = list(_DOOR_WEIGHTS), list(_DOOR_WEIGHTS.values())
    for number, at_s in enumerate(arrivals):
        door = choose.choices(doors, weights)[0]
        tag = f"{seed}-{number}"
        job_id = UUID(int=choose.getrandbits(128), version=4)  # also fixes the partition
        yield PlannedJob(
            at_s=at_s,
            request=_request(choose, engine, tag, job_id if door is Door.KAFKA else None),
            door=door,
            gateway=choose.randrange(2),
            key=tag if door not in (Door.KAFKA, Door.HTTP) else None,
            repeat_after_s=choose.uniform(0.05, 2.0),
            cancel_after_s=choose.uniform(0, 3) if choose.random() < 0.06 else None,
            cancel_door=choose.choice([Door.KAFKA, Door.HTTP]),
        )


def _request(
    choose: random.Random, engine: EngineProfile, tag: str, job_id: UUID | None
) -> JobRequest:
    least, most = engine.max_tokens
    text = _text(choose, *engine.prompt_characters)
    as_chat = choose.random() < 0.5
    return JobRequest(
        job_id=job_id,
        model=engine.model,
        messages=[ChatMessage(role="user", content=text)] if as_chat else None,
        prompt=None if as_chat else text,
        qos=choose.choices(["chat", "q1", "q2", "batch-1h"], [50, 15, 20, 15])[0],
        max_tokens=round(least * (most / least) ** choose.random()),
        ignore_eos=True,
        importance=choose.choice(["high", "low"]),
        stream=choose.random() < 0.2,
        reply_topic=_reply_topic(choose),
        expire_after_s=round(choose.uniform(0.2, 4), 3) if choose.random() < 0.08 else None,
        tenant="chaos",
        metadata={"chaos": tag},
    )


def _reply_topic(choose: random.Random) -> str | None:
    if choose.random() < 0.4:
        return choose.choice(REPLY_TOPICS)
    return DELETED_REPLY_TOPIC if choose.random() < 0.1 else None


def _text(choose: random.Random, least: int, most: int) -> str:
    words = ["queue", "token", "deadline", "prefill", "slack", "batch", "chunk", "decode"]
    length = choose.randint(least, most)
    return " ".join(choose.choices(words, k=length // 3 + 1))[:length]


def expectation_of(planned: PlannedJob, engine: str) -> Expectation:
    """What has to become of `planned` once it is acknowledged."""
    statuses = {"completed"}
    if planned.cancel_after_s is not None:
        statuses.add("cancelled")
    if planned.request.expire_after_s is not None:
        statuses.add("expired")
    return Expectation(
        statuses=frozenset(statuses),
        output=output_of(planned.request, engine),
        expire_after_s=planned.request.expire_after_s,
        reply_topic=planned.request.reply_topic,
        reply_stays=planned.request.reply_topic != DELETED_REPLY_TOPIC,
        tag=planned.request.metadata["chaos"],
    )


def output_of(request: JobRequest, engine: str) -> Output:
    """What `request` generates when it completes."""
    if not ENGINES[engine].predictable:
        return Output(completion_tokens=request.max_tokens)
    prompt = request.prompt or "".join(each.content for each in request.messages or ())
    return Output(
        completion_tokens=request.max_tokens,
        prompt_tokens=max(1, len(prompt.encode()) // NULL_BYTES_PER_TOKEN),
        text_digest=digest(NULL_TEXT * request.max_tokens),
    )


def chat_service_s(planned: PlannedJob, engine: str) -> float | None:
    """How long an ordinary chat generates; None for other jobs."""
    ordinary = planned.cancel_after_s is None and planned.request.expire_after_s is None
    if not ordinary or planned.request.qos not in ("chat", "q1"):
        return None
    return planned.request.max_tokens * ENGINES[engine].token_s
