"""Writes the AsyncAPI document: `python -m gateway.contract [--check]`.

It is that of the FastStream application that a gateway runs, which also declares what goes
through aiokafka. With `--check` nothing is written, and the exit status says whether the file is
up to date.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from gateway.fleet.application import application
from gateway.fleet.fleet import Fleet
from gateway.fleet.topics import Described, described
from niyama.settings import KafkaSettings
from schemas.publish import FOLDER, as_json

FILE = FOLDER / "asyncapi.json"
REPLIES = "niyama-replies"
_TERMINAL_EVENT = {"$ref": "#/components/messages/JobEvent"}

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
    topics = described(settings.topics)
    payloads = found["components"]["schemas"]
    for unused in [name for name in payloads if ":" in name]:  # of single channels
        del payloads[unused]
    return as_json(
        {
            **found,
            "servers": {"kafka": {"host": "localhost:9092", "protocol": "kafka"}},
            "channels": {**{each.topic.name: _channel(each) for each in topics}, **_replies()},
            "operations": {**_operations(topics), **_reply_operation()},
            "components": {**found["components"], "messages": _messages(topics)},
        }
    )


def _channel(each: Described) -> Json:
    configs = each.topic.configs()
    settings: Json = {
        "cleanup.policy": configs["cleanup.policy"].split(","),
        "retention.ms": int(configs["retention.ms"]),
        "max.message.bytes": int(configs["max.message.bytes"]),
    }
    binding = {
        "topic": each.topic.name,
        "partitions": each.topic.partitions,
        "topicConfiguration": settings,
        "bindingVersion": "0.5.0",
    }
    name = _message_name(each)
    return {
        "address": each.topic.name,
        "description": each.topic.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": binding},
        "x-kafka-configs": configs,
    }


def _message_name(each: Described) -> str:
    return "DeadLetter" if each.message is None else each.message.__name__


def _messages(topics: Sequence[Described]) -> Json:
    return {_message_name(each): _message(each) for each in topics}


def _message(each: Described) -> Json:
    message: Json = {
        "name": _message_name(each),
        "bindings": {"kafka": {"key": each.key, "bindingVersion": "0.5.0"}},
    }
    if each.message is None:
        message |= {
            "contentType": "application/octet-stream",
            "payload": {"description": "The refused record's value"},
        }
    else:
        message["payload"] = {"$ref": f"#/components/schemas/{each.message.__name__}"}
    if each.headers:
        message["headers"] = {"type": "object", "properties": each.headers}
    if each.has_job_id:
        message["correlationId"] = {"location": "$message.payload#/job_id"}
    return message


def _operations(topics: Sequence[Described]) -> Json:
    return {
        f"{action}:{each.topic.name}": _operation(
            action, each.topic.name, _message_name(each), each.summary
        )
        for each in topics
        for action in each.actions
    }


def _operation(action: str, channel: str, message: str, summary: str) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _replies() -> Json:
    return {
        REPLIES: {
            "address": f"{REPLIES}.{{name}}",
            "description": "Terminal events of jobs that named this topic. The operator says which "
            "topics jobs may name (--reply-topics); these are the default.",
            "parameters": {"name": {"description": "Of the producer's choice"}},
            "messages": {"JobEvent": _TERMINAL_EVENT},
        }
    }


def _reply_operation() -> Json:
    summary = "A job has ended: its terminal event, once"
    return {f"send:{REPLIES}": _operation("send", REPLIES, "JobEvent", summary)}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
