"""Every topic is spread evenly, and what can stay where it is does."""

from hypothesis import given
from hypothesis import strategies as st

from workers.offsets.assignor import spread

TOPICS = {"batch": range(6), "interactive": range(6), "relegated": range(6)}


def _moved(before: dict[str, dict[str, list[int]]], after: dict[str, dict[str, list[int]]]) -> int:
    return sum(
        len(set(share.get(topic, ())) - set(after.get(member, {}).get(topic, ())))
        for member, share in before.items()
        for topic in TOPICS
    )


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 12), min_size=1),
    st.dictionaries(
        st.sampled_from("uvwxyz"),
        st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 15), max_size=16)),
        min_size=1,
    ),
)
def test_every_partition_has_one_owner_and_every_topic_is_even(
    counts: dict[str, int], owned: dict[str, dict[str, list[int]]]
) -> None:
    """Whatever members claim to own: too much, the same, or what does not exist."""
    result = spread({topic: range(count) for topic, count in counts.items()}, owned)
    assert result.keys() == owned.keys()
    for topic, count in counts.items():
        shares = [share[topic] for share in result.values()]
        assert sorted(partition for share in shares for partition in share) == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_newcomer_takes_no_more_than_its_share() -> None:
    alone = spread(TOPICS, {"a": {}})
    pair = spread(TOPICS, {**alone, "b": {}})
    assert _moved(alone, pair) == 9
    assert {t: len(p) for t, p in pair["b"].items()} == dict.fromkeys(TOPICS, 3)
    trio = spread(TOPICS, {**pair, "c": {}})
    assert _moved(pair, trio) == 6
    assert {t: len(p) for t, p in trio["c"].items()} == dict.fromkeys(TOPICS, 2)


def test_who_stays_keeps_everything_when_one_leaves() -> None:
    trio = spread(TOPICS, {"a": {}, "b": {}, "c": {}})
    pair = spread(TOPICS, {"a": trio["a"], "b": trio["b"]})
    assert _moved({"a": trio["a"], "b": trio["b"]}, pair) == 0


def test_nothing_moves_when_nothing_changes() -> None:
    four = spread(TOPICS, {member: {} for member in "abcd"})
    assert spread(TOPICS, four) == four


def test_odd_partitions_of_different_topics_go_to_different_members() -> None:
    totals = [
        sum(map(len, share.values()))
        for share in spread(TOPICS, {member: {} for member in "abcd"}).values()
    ]
    assert max(totals) - min(totals) <= 1
