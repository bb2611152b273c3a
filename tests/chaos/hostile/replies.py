"""Jobs that name a topic where no reply can go, or none may."""

from tests.chaos.hostile.kinds import HostileRecord, Setting, kind, valid_job
from tests.chaos.journal import Expectation


@kind("undeliverable-reply")
def _undeliverable_reply(setting: Setting) -> HostileRecord:
    """A topic that Kafka cannot create; whoever else waits for a reply must not notice."""
    either = frozenset({"completed", "failed"})
    document = setting.job(reply_topic="..")
    return valid_job(setting, document, expectation=Expectation(statuses=either))


@kind("reply-to-our-own-topic")
def _reply_to_our_own_topic(setting: Setting) -> HostileRecord:
    refused = Expectation(statuses=frozenset({"failed"}))
    document = setting.job(reply_topic=setting.topics.control.name)
    return valid_job(setting, document, expectation=refused)
