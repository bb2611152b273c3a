"""Niyama: interactive and batch LLM work on the same GPUs, through Kafka.

from niyama import JobRequest, Producer

async with Producer() as producer:
    job = await producer.publish(JobRequest(model="niyama-tiny", prompt="Hello", qos="chat"))
"""

from niyama.client import EncodedJob, JobAcknowledgement, NotConnectedError, Producer
from niyama.settings import KafkaSettings
from schemas import ChatMessage, JobEvent, JobRequest, QosTargets, Task

__all__ = [
    "ChatMessage",
    "EncodedJob",
    "JobAcknowledgement",
    "JobEvent",
    "JobRequest",
    "KafkaSettings",
    "NotConnectedError",
    "Producer",
    "QosTargets",
    "Task",
]
