"""ReplySent v1: the gateway's note that a job's reply is in its topic."""

from uuid import UUID

from schemas.job import TopicName
from schemas.message import Message, UtcDatetime


class ReplySent(Message):
    """Published in the transaction that publishes the reply itself: there is never one alone.

    A gateway that has read it does not send the job's reply again, whatever its database says.
    """

    job_id: UUID
    reply_topic: TopicName
    sent_at: UtcDatetime
