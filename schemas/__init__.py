"""What crosses a process boundary: jobs, events, control, topics and QoS classes."""

from schemas.control import JobControl
from schemas.decode import Refusal, decode_job
from schemas.event import EventType, JobError, JobEvent, JobResult, Prediction, Usage
from schemas.job import ChatMessage, JobRequest
from schemas.load import LoadReport
from schemas.qos import Kind, Qos, QosCatalog, QosTargets, Task
from schemas.status import JobStatus
from schemas.times import GapCause, JobTimes, TimeParts
from schemas.tokens import TokenChunk
from schemas.topics import PoolTopics, TopicSpec

__all__ = [
    "ChatMessage",
    "EventType",
    "GapCause",
    "JobControl",
    "JobError",
    "JobEvent",
    "JobRequest",
    "JobResult",
    "JobStatus",
    "JobTimes",
    "Kind",
    "LoadReport",
    "PoolTopics",
    "Prediction",
    "Qos",
    "QosCatalog",
    "QosTargets",
    "Refusal",
    "Task",
    "TimeParts",
    "TokenChunk",
    "TopicSpec",
    "Usage",
    "decode_job",
]
