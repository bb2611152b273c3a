"""Writes the published contract from the code: `python -m schemas.publish [--check]`.

A JSON Schema for each message and one AsyncAPI document, in `schemas/published`. With
`--check` nothing is written, and the exit status says whether the files are up to date.
"""

import json
import sys
from pathlib import Path
from typing import Any

from schemas.control import JobControl
from schemas.event import JobEvent
from schemas.job import JobRequest
from schemas.load import LoadReport
from schemas.message import SCHEMA_VERSION, Message
from schemas.reply import ReplySent
from schemas.tokens import TokenChunk
from schemas.topics import PoolTopics, TopicSpec

FOLDER = Path(__file__).parent / "published"
MESSAGES: dict[str, type[Message]] = {
    "job-request": JobRequest,
    "job-event": JobEvent,
    "job-control": JobControl,
    "token-chunk": TokenChunk,
    "reply-sent": ReplySent,
    "load-report": LoadReport,
}


def documents() -> dict[str, str]:
    """File name to content, of everything that is published."""
    files = {
        f"{name}.v{SCHEMA_VERSION}.schema.json": _json(_schema(name, message))
        for name, message in MESSAGES.items()
    }
    files["asyncapi.json"] = _json(_asyncapi())
    return files


def outdated(folder: Path) -> list[str]:
    """Names of published files in `folder` that differ from what the code says."""
    return [
        name
        for name, content in documents().items()
        if not (folder / name).is_file() or (folder / name).read_text() != content
    ]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m schemas.publish [--check]\n")
        return 2
    if arguments:
        stale = outdated(FOLDER)
        sys.stdout.write(f"out of date, run make schemas: {', '.join(stale)}\n" if stale else "")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name, content in documents().items():
        (FOLDER / name).write_text(content)
    return 0


def _json(document: dict[str, Any]) -> str:
    # Sorted, because FastStream lists channels in no particular order.
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _schema(name: str, message: type[Message]) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:niyama:{name}:v{SCHEMA_VERSION}",
        **message.model_json_schema(),
    }


def _asyncapi() -> dict[str, Any]:
    # Imported here, because only publishing the contract needs FastStream, not using it.
    from faststream.kafka import KafkaBroker
    from faststream.specification import AsyncAPI

    topics = PoolTopics.of("default")
    broker = KafkaBroker("localhost:9092")
    # Dead letters are not here: they are of any bytes.
    messages: list[tuple[TopicSpec, type[Message]]] = [
        *((topic, JobRequest) for topic in topics.jobs),
        (topics.events, JobEvent),
        (topics.tokens, TokenChunk),
        (topics.control, JobControl),
        (topics.replies_sent, ReplySent),
        (topics.load, LoadReport),
    ]
    for topic, message in messages:
        _declare(broker, topic, message)
    specification = AsyncAPI(
        broker,
        title="Niyama",
        version=str(SCHEMA_VERSION),
        description="Topics of the pool 'default'. Other pools have job topics of their own name.",
        schema_version="3.0.0",
    )
    document: dict[str, Any] = json.loads(specification.to_specification().to_json())
    for topic, _ in messages:
        document["channels"][topic.name]["bindings"]["kafka"] |= _binding(topic)
    for described in document["components"]["messages"].values():
        described["correlationId"] = {"location": "$message.payload#/job_id"}
    return document


def _declare(broker: Any, topic: TopicSpec, message: type[Message]) -> None:
    broker.publisher(topic.name, title=topic.name, description=topic.description, schema=message)


def _binding(topic: TopicSpec) -> dict[str, Any]:
    settings = topic.configs()
    return {
        "partitions": topic.partitions,
        "topicConfiguration": {
            "cleanup.policy": settings["cleanup.policy"].split(","),
            "retention.ms": int(settings["retention.ms"]),
            "max.message.bytes": int(settings["max.message.bytes"]),
        },
    }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
