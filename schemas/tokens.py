"""TokenChunk v1: streamed output of jobs that asked for it."""

from uuid import UUID

from pydantic import Field

from schemas.event import Source
from schemas.message import Message, UtcDatetime


class TokenChunk(Message):
    """Consecutive tokens of one attempt at one job."""

    job_id: UUID
    attempt: int = Field(ge=1)
    source: Source | None = None
    """The record that the tokens are for. Another record with the job's id is not the job: ignore
    what is for one that is not yours."""
    at: UtcDatetime
    index: int = Field(ge=0)
    """Position of the chunk's first token in the output. Where it is not the end of the previous
    chunk, chunks were lost or are repeated; the terminal event has the whole result."""
    text: str
    token_ids: list[int] | None = Field(default=None, fail_fast=True)
    finish_reason: str | None = None
    """Set on the last chunk, which may be lost, too: the terminal event ends the job."""
