"""Whether the topics accept records as large as a worker's may be."""

from collections.abc import Iterable
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from niyama.errors import ConfigurationError
from schemas.topics import MAX_RECORD_BYTES

SETTING = "max.message.bytes"


async def check_record_sizes(admin: AIOKafkaAdminClient, topics: Iterable[str]) -> None:
    """Raise ConfigurationError when a topic, created by somebody else, accepts only small records.

    A result that Kafka rejects would otherwise end one worker after the other.
    """
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, {SETTING: None}) for name in topics]
    for response in await admin.describe_configs(resources):
        for _error, _message, _kind, topic, settings in response.resources:
            _check(topic, settings)


def _check(topic: str, settings: Iterable[tuple[Any, ...]]) -> None:
    for name, value, *_ in settings:
        if name == SETTING and int(value) < MAX_RECORD_BYTES:
            raise ConfigurationError(
                f"topic {topic} accepts records of up to {int(value):,} bytes, but results may be "
                f"larger: set its {SETTING} to {MAX_RECORD_BYTES} (kafka-configs --alter "
                f"--entity-type topics --entity-name {topic} "
                f"--add-config {SETTING}={MAX_RECORD_BYTES})"
            )
