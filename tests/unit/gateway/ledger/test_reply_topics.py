"""Which topics may get replies."""

import pytest

from gateway.ledger.reply_topics import ReplyTopicRule
from gateway.settings import GatewaySettings


def refusal(topic: str, **settings: str) -> str | None:
    return ReplyTopicRule.of(GatewaySettings(**settings)).refusal(topic)


def test_by_default_the_topics_of_one_prefix_are_allowed() -> None:
    assert refusal("niyama-replies.orders") is None
    assert "the gateway allows niyama-replies.* (--reply-topics)" in (refusal("orders") or "")


@pytest.mark.parametrize("topic", ["answers", "team-a.x", "team-a."])
def test_an_operator_names_topics_and_prefixes(topic: str) -> None:
    assert refusal(topic, reply_topics="answers,team-a.*") is None


@pytest.mark.parametrize("topic", ["answers2", "team-a", "team-b.x", "niyama-replies.x", ".", ".."])
def test_what_the_operator_does_not_name_is_refused(topic: str) -> None:
    assert refusal(topic, reply_topics="answers,team-a.*")


@pytest.mark.parametrize("topic", ["__consumer_offsets", "__transaction_state", "own.control"])
def test_internal_and_own_topics_are_refused_whatever_is_allowed(topic: str) -> None:
    assert refusal(topic, topic_prefix="own", reply_topics=f"*,{topic}")


def test_without_a_pattern_no_topic_is_allowed() -> None:
    assert "the gateway allows none" in (refusal("niyama-replies.x", reply_topics="") or "")
