"""The ACLs of docs/security.md, read from its table and given to a broker."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest

from niyama.settings import KafkaSettings

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
ROW = re.compile(
    r"\| ([a-z ,]+) \| (topic|group|transactional id) \| `(\S+)` \| (\w+(?:, \w+)*) \|"
)

# Numbers of Kafka's protocol.
RESOURCES = {"topic": 2, "group": 3, "transactional id": 5}
OPERATIONS = {"Read": 3, "Write": 4, "Describe": 8, "DescribeConfigs": 10}
LITERAL, PREFIXED = 3, 4
ALLOW = 3


@dataclass(frozen=True, slots=True)
class Acl:
    """One operation that one process may do."""

    process: str
    resource: str
    name: str
    operation: str


def documented_acls(settings: KafkaSettings) -> Iterator[Acl]:
    """With names for these settings."""
    for process, resource, name, operations in ROW.findall(PAGE.read_text()):
        name = name.replace("<prefix>", settings.topic_prefix).replace("<pool>", settings.pool)
        for operation in operations.split(", "):
            yield Acl(process.partition(",")[0], resource, name, operation)


async def give_acls(settings: KafkaSettings, principals: Mapping[str, str]) -> int:
    """Give each process's principal what is documented. Returns how many ACLs there are."""
    client = AIOKafkaClient(**settings.client_options())
    await client.bootstrap()
    try:
        acls = list(documented_acls(settings))
        for acl in acls:
            request = CreateAclsRequest(
                RESOURCES[acl.resource],
                acl.name.removesuffix("*"),
                PREFIXED if acl.name.endswith("*") else LITERAL,
                principals[acl.process],
                "*",
                OPERATIONS[acl.operation],
                ALLOW,
            )
            response = await client.send(client.get_random_node(), request)
            assert [code for code, _ in response.creation_responses] == [0]
        return len(acls)
    finally:
        await client.close()
