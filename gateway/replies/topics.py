"""Topics that jobs name for their replies."""

from collections.abc import Collection

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from niyama import kafka
from niyama.settings import KafkaSettings


async def create_missing(settings: KafkaSettings, names: Collection[str]) -> dict[str, str]:
    """Create what is missing among ``names``, with the broker's own defaults.

    Returns why not, for each topic that is still missing. Raises KafkaError.
    """
    admin = AIOKafkaAdminClient(**kafka.connection(settings))
    await admin.start()
    try:
        missing = set(names) - set(await admin.list_topics())
        if not missing:
            return {}
        # aiokafka takes the broker's defaults (-1) only beside assignments: here, none.
        topics = [NewTopic(name, -1, -1, replica_assignments={}) for name in sorted(missing)]
        response = await admin.create_topics(topics)
    finally:
        await admin.close()
    return {
        name: f"Kafka does not create the topic: {for_code(code).__name__} {' '.join(more)}"
        for name, code, *more in response.topic_errors
        if code and for_code(code) is not TopicAlreadyExistsError
    }
