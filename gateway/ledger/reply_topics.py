"""Which topics a job may name for its reply: the gateway writes to them with its own rights."""

from dataclasses import dataclass
from typing import Self

from gateway.settings import GatewaySettings

INTERNAL_PREFIX = "__"
"""Of Kafka's own topics, such as `__consumer_offsets`."""


@dataclass(frozen=True, slots=True)
class ReplyTopicRule:
    """The operator's allow-list: applied when a job is submitted, and when its reply is sent."""

    allowed: tuple[str, ...]
    """Topic names; one that ends in `*` stands for every name with that prefix."""
    own_prefix: str
    """Topics of this installation start with it. They are refused, whatever is allowed."""

    @classmethod
    def of(cls, settings: GatewaySettings) -> Self:
        return cls(settings.reply_topic_patterns, f"{settings.topic_prefix}.")

    def refusal(self, topic: str) -> str | None:
        """Why `topic` may not get replies, as a sentence; None when it may."""
        if topic.startswith(INTERNAL_PREFIX):
            return f"{topic!r} is a topic of Kafka's own"
        if topic.startswith(self.own_prefix):
            return f"{topic!r} is a topic of Niyama's own: they start with {self.own_prefix!r}"
        if any(_matches(topic, pattern) for pattern in self.allowed):
            return None
        allowed = ", ".join(self.allowed) or "none"
        return f"replies may not go to {topic!r}; the gateway allows {allowed} (--reply-topics)"


def _matches(topic: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return topic.startswith(pattern[:-1])
    return topic == pattern
