"""Writes the AsyncAPI document: `python -m gateway.contract [--check]`.

It is that of the FastStream application that a gateway runs, which also declares what goes
through aiokafka: its channels, operations and payloads are FastStream's. Added here is what
FastStream has no words for: keys and headers, which job a message is about, the settings of
topics, and what an operation is for. With `--check` nothing is
written, and the exit status says whether the file is up to date.
"""

import json
import sys
from typing import Any

from gateway.fleet.application import application
from gateway.fleet.fleet import Fleet
from gateway.fleet.operations import Operation, operations
from niyama.settings import KafkaSettings
from schemas import TopicSpec
from schemas.publish import FOLDER, as_json

FILE = FOLDER / "asyncapi.json"
BINDING_VERSION = "0.5.0"

Json = dict[str, Any]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m gateway.contract [--check]\n")
        return 2
    if arguments:
        stale = not FILE.is_file() or FILE.read_text() != document()
        sys.stdout.write("out of date, run make schemas: asyncapi.json\n" if stale else "")
        return int(stale)
    FILE.write_text(document())
    return 0


def document() -> str:
    """The document, of a pool `default`."""
    settings = KafkaSettings(kafka_bootstrap="localhost:9092")
    schema = application(settings, Fleet()).schema
    found: Json = json.loads(schema.to_specification().to_json())
    said = list(operations(settings.topics))
    for each in said:
        _complete(found, each)
    # AsyncAPI allows no colon in the names of components; FastStream's messages have some.
    found["components"]["messages"] = {each.message_name: _message(each) for each in said}
    payloads = found["components"]["schemas"]
    found["components"]["schemas"] = {name: payloads[name] for name in payloads if ":" not in name}
    return as_json(found)


def _complete(found: Json, operation: Operation) -> None:
    """Add to one operation, and to its channel, what is to be said of them."""
    name, message = operation.name, operation.message_name
    channel = found["channels"][name]
    channel |= _of_reply() if operation.topic is None else _of_topic(operation.topic)
    channel["messages"] = {message: {"$ref": f"#/components/messages/{message}"}}
    found["operations"][name] |= {
        "summary": operation.summary,
        "messages": [{"$ref": f"#/channels/{name}/messages/{message}"}],
    }


def _message(operation: Operation) -> Json:
    name = operation.message_name
    message: Json = {
        "name": name,
        "bindings": {"kafka": {"key": operation.key, "bindingVersion": BINDING_VERSION}},
    }
    if operation.message is None:
        message |= {
            "contentType": "application/octet-stream",
            "payload": {"description": "The refused record's value"},
        }
    else:
        message["payload"] = {"$ref": f"#/components/schemas/{name}"}
    if operation.headers:
        message["headers"] = {"type": "object", "properties": operation.headers}
    if operation.has_job_id:
        message["correlationId"] = {"location": "$message.payload#/job_id"}
    return message


def _of_topic(topic: TopicSpec) -> Json:
    configs = topic.configs()
    settings: Json = {
        "cleanup.policy": configs["cleanup.policy"].split(","),
        "retention.ms": int(configs["retention.ms"]),
        "max.message.bytes": int(configs["max.message.bytes"]),
    }
    binding = {
        "topic": topic.name,
        "partitions": topic.partitions,
        "topicConfiguration": settings,
        "bindingVersion": BINDING_VERSION,
    }
    return {"bindings": {"kafka": binding}, "x-kafka-configs": configs}


def _of_reply() -> Json:
    return {"bindings": {}, "parameters": {"name": {"description": "Of the producer's choice"}}}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
