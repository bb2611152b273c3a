"""The AsyncAPI document: that of the application that runs, and of everything around it."""

import json
import re
from typing import Any

import pytest

from gateway import contract
from gateway.fleet.application import application
from gateway.fleet.fleet import Fleet
from niyama.settings import KafkaSettings
from schemas import headers


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(contract.FILE.read_text())


def resolved(document: Any, value: Any) -> Any:
    """What a reference stands for."""
    while isinstance(value, dict) and "$ref" in value:
        found = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def test_the_file_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert contract.main(["--check"]) == 0, capsys.readouterr().out


def test_niyama_receives_what_producers_send_and_sends_what_they_can_receive(
    document: Any,
) -> None:
    assert {name for name in document["operations"] if name.startswith("receive:")} == {
        "receive:niyama.default.interactive",
        "receive:niyama.default.batch",
        "receive:niyama.default.relegated",
        "receive:niyama.control",
        "receive:niyama.load",
        "receive:niyama.replies-sent",
    }
    assert {name for name in document["operations"] if name.startswith("send:")} == {
        "send:niyama.events",
        "send:niyama.tokens",
        "send:niyama.dead-letters",
        "send:niyama-replies",
        "send:niyama.load",
        "send:niyama.replies-sent",
    }
    for name, operation in document["operations"].items():
        assert name.startswith(operation["action"])
        channel = resolved(document, operation["channel"])
        (message,) = operation["messages"]
        assert resolved(document, message) in [
            resolved(document, each) for each in channel["messages"].values()
        ]


def test_what_the_running_application_reads_is_in_it() -> None:
    running = application(KafkaSettings(), Fleet())
    (broker,) = running.brokers
    read = {topic for subscriber in broker.subscribers for topic in subscriber.topic_names}
    document = json.loads(contract.document())
    assert read == {"niyama.load"}
    assert {f"receive:{topic}" for topic in read} <= document["operations"].keys()


def test_every_message_has_its_key_payload_and_headers(document: Any) -> None:
    messages = document["components"]["messages"]
    assert messages.keys() == {
        *("JobRequest", "JobControl", "JobEvent", "TokenChunk"),
        *("DeadLetter", "ReplySent", "LoadReport"),
    }
    for message in messages.values():
        assert message["bindings"]["kafka"]["key"]
        assert resolved(document, message["payload"])
    assert messages["JobEvent"]["bindings"]["kafka"]["key"]["format"] == "uuid"
    assert {"traceparent", "tracestate"} == set(messages["JobRequest"]["headers"]["properties"])
    assert headers.REASON in messages["DeadLetter"]["headers"]["properties"]
    assert messages["JobEvent"]["correlationId"] == {"location": "$message.payload#/job_id"}
    assert "correlationId" not in messages["LoadReport"]


def test_the_documents_channels_and_operations_are_those_of_the_application() -> None:
    own = json.loads(application(KafkaSettings(), Fleet()).schema.to_specification().to_json())
    published = json.loads(contract.document())
    for section in ("channels", "operations"):
        assert own[section].keys() == published[section].keys()
    for name, operation in own["operations"].items():
        assert published["operations"][name]["action"] == operation["action"]
        assert published["operations"][name]["channel"] == operation["channel"]
        assert published["channels"][name]["address"] == own["channels"][name]["address"]
    assert own["components"]["schemas"].keys() >= published["components"]["schemas"].keys()


def test_names_of_components_are_those_that_asyncapi_allows(document: Any) -> None:
    # https://www.asyncapi.com/docs/reference/specification/v3.0.0#componentsObject
    for components in document["components"].values():
        assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in components)


def test_no_reference_leads_nowhere(document: Any) -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            resolved(document, value)
            value = list(value.values())
        for each in value if isinstance(value, list) else ():
            check(each)

    check(document)


def test_channels_have_the_settings_with_which_topics_are_created(document: Any) -> None:
    channels = document["channels"]
    events = channels["send:niyama.events"]["bindings"]["kafka"]
    assert events["partitions"] == 6
    assert events["topicConfiguration"]["retention.ms"] == 7 * 86_400_000
    load = channels["send:niyama.load"]
    assert load["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == [
        "compact",
        "delete",
    ]
    assert load["x-kafka-configs"]["segment.bytes"] == "4194304"
