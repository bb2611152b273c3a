"""Niyama: interactive and batch LLM work on the same GPUs, through Kafka.

from niyama import JobRequest, Producer

async with Producer() as producer:
    job = await producer.publish(JobRequest(model="tiny", prompt="Hello", qos="chat"))
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from niyama.client import JobAcknowledgement, Producer
    from niyama.settings import KafkaSettings
    from schemas import ChatMessage, JobEvent, JobRequest, QosTargets
else:
    # Imported when they are first used: the command line starts without Kafka's client.
    def __getattr__(name: str) -> object:
        from importlib import import_module

        for home in ("schemas", "niyama.settings", "niyama.client") if name in __all__ else ():
            if hasattr(module := import_module(home), name):
                return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ChatMessage",
    "JobAcknowledgement",
    "JobEvent",
    "JobRequest",
    "KafkaSettings",
    "Producer",
    "QosTargets",
]
