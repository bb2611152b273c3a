"""Jobs that name a topic where no reply can go, or none may."""

from schemas import JobRequest
from tests.chaos.hostile.kinds import HostileRecord, Setting, kind, valid_job
from tests.chaos.journal import Expectation
from tests.chaos.workload import output_of


@kind("reply-topic-that-kafka-refuses")
def _reply_topic_that_kafka_refuses(setting: Setting) -> HostileRecord:
    """An allowed topic whose name is too long for Kafka; no other reply may wait for it."""
    return _without_reply(setting, "niyama-replies." + "x" * 234, "pending")


@kind("reply-topic-that-does-not-exist")
def _reply_topic_that_does_not_exist(setting: Setting) -> HostileRecord:
    return _without_reply(setting, "niyama-replies.chaos-nowhere", "pending")


@kind("reply-to-our-own-topic")
def _reply_to_our_own_topic(setting: Setting) -> HostileRecord:
    own = setting.choose.choice([topic.name for topic in setting.topics.all])
    return _without_reply(setting, own, "undeliverable")


@kind("reply-to-an-internal-topic")
def _reply_to_an_internal_topic(setting: Setting) -> HostileRecord:
    internal = setting.choose.choice(["__consumer_offsets", "__transaction_state"])
    return _without_reply(setting, internal, "undeliverable")


def _without_reply(setting: Setting, topic: str, state: str) -> HostileRecord:
    """The job completes like any other; `state` is what the API says of its reply."""
    document = setting.job(reply_topic=topic)
    output = output_of(JobRequest.model_validate(document), setting.engine)
    return valid_job(setting, document, expectation=Expectation(output=output, no_reply=state))
