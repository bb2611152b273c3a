"""Where a job's time went: disjoint parts, in the order in which a job passes through them."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.message import Payload

Seconds = Annotated[float, Field(ge=0, le=320_000_000_000)]
"""No two times are further apart: a record may say that it is of the year 1, or of 9999."""


class TimeParts(Payload):
    """Seconds, which sum up to the whole. What is left out took no time."""

    publish_s: Seconds | None = None
    """From the timestamp of its record until a worker that was reading its partition had it."""
    queue_s: Seconds | None = None
    """In Kafka, while no worker read its partition: none was there, or had room."""
    preparing_s: Seconds | None = None
    """In the worker, until the engine had it: checked, tokenized, or waiting for its turn there."""
    waiting_s: Seconds | None = None
    """In the engine, while other work went before its prompt."""
    parked_s: Seconds | None = None
    """In the engine, after its prompt was paused for a more urgent one."""
    computing_s: Seconds | None = None
    """In iterations that computed its prompt, until its first token: what its chunks alone take."""
    decode_s: Seconds | None = None
    """Generating, from the first token to the last one, as long as decodes alone take."""
    beside_s: Seconds | None = None
    """What other jobs cost it in the engine while it computed or generated: their work in its
    iterations, and those of their prompts alone between the iterations of its answer."""
    retracted_s: Seconds | None = None
    """From when its KV cache was taken back until it generated again."""
    paced_s: Seconds | None = None
    """Its tokens were there, and were held back until they were due."""
    delivery_s: Seconds | None = None
    """From the engine's scheduler to the worker's report."""


class GapCause(StrEnum):
    """What was between the two tokens that came furthest apart."""

    RETRACTED = "retracted"
    """Its KV cache was taken back."""
    TURN = "turn"
    """Iterations of other jobs' prompts, without decodes."""
    SHARED = "shared"
    """An iteration that it shared with other jobs' prompts."""
    DECODES = "decodes"
    """An iteration of decodes alone."""
    DELIVERY = "delivery"
    """The engine made them closer together: they were held back, or up."""


class JobTimes(Payload):
    """The time of the attempt that ended a job, by its worker's clock, from the job's arrival on.

    The worker counts from the timestamp of the job's record, or from when it read the record if
    that was earlier: then the producer's clock is ahead.
    """

    until_first_token: TimeParts | None = None
    """None: there was no token."""
    until_end: TimeParts
    """From the first token on; if there was none, from the arrival."""
    gap_cause: GapCause | None = None
    """Of the largest gap between two tokens. None: there was none, or nobody knows."""
