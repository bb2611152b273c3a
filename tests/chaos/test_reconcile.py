"""The reconciler finds what is wrong, and nothing in a run in which nothing is."""

from dataclasses import replace
from uuid import UUID

import pytest

from schemas.event import Source
from tests.chaos.evidence import ApiAnswer, Ending, Evidence, LedgerRow
from tests.chaos.journal import AcknowledgedJob, Expectation, Journal, Output, digest
from tests.chaos.reconcile import Fault, Verdict, reconcile

JOB = UUID(int=1)
END, OTHER_END = UUID(int=10), UUID(int=11)
REPLIES = "niyama-replies.chaos-0"
RIGHT = Output(completion_tokens=3, prompt_tokens=2, text_digest=digest("null null null "))
SOURCE = Source(topic="jobs", partition=0, offset=7)
OTHER_SOURCE = Source(topic="jobs", partition=1, offset=3)
EXPECTED = Expectation(output=RIGHT, reply_topic=REPLIES, tag="7-1")
COMPLETED = Ending(END, "completed", 1, "worker-1", RIGHT, at_s=100.0, source=SOURCE)
ROW = LedgerRow("completed", END, RIGHT, "", 1, 99.0, 100.0, tag="7-1", source=SOURCE)
"""It arrived at 99 s and finished at 100 s."""


def journal(expectation: Expectation = EXPECTED) -> Journal:
    found = Journal()
    found.acknowledge(AcknowledgedJob(JOB, "kafka", 99.0, expectation, source=SOURCE))
    return found


def evidence(row: LedgerRow | None = ROW, *endings: Ending) -> Evidence:
    """Of JOB: consistent, as far as the arguments are."""
    seen = endings or (COMPLETED,)
    found = Evidence(endings={JOB: list(seen)}, touched={JOB}, replies={JOB: [(REPLIES, seen[0])]})
    if row is not None:
        found.ledger[JOB] = row
        found.api[JOB] = ApiAnswer(row.status, row.output, reply="sent")
    return found


def faults(verdict: Verdict) -> set[Fault]:
    return {fault for fault, findings in verdict.findings.items() if findings}


def test_a_completed_job_with_its_reply_is_fine() -> None:
    verdict = reconcile(journal(), evidence())
    assert verdict.passed
    assert (verdict.jobs, verdict.tokens, verdict.tokens_again) == (1, 3, 0)


def test_a_job_that_is_not_in_the_ledger_is_lost() -> None:
    verdict = reconcile(journal(), evidence(None))
    assert faults(verdict) == {Fault.LOST}
    assert not verdict.passed


def test_a_job_that_is_still_open_is_stuck() -> None:
    row = replace(ROW, status="running", terminal_event_id=None)
    assert faults(reconcile(journal(), evidence(row))) == {Fault.STUCK}


def test_a_job_that_completed_in_two_attempts_was_run_twice_and_its_tokens_too() -> None:
    again = replace(COMPLETED, event_id=OTHER_END, attempt=2, worker_id="worker-2")
    verdict = reconcile(journal(), evidence(ROW, COMPLETED, again))
    assert not faults(verdict)
    assert (len(verdict.run_twice), verdict.tokens_again) == (1, 3)
    assert not verdict.passed  # one of one is more than 2%


def test_another_record_of_its_id_that_ran_is_counted_apart() -> None:
    other = replace(COMPLETED, event_id=OTHER_END, source=OTHER_SOURCE)
    verdict = reconcile(journal(), evidence(ROW, COMPLETED, other))
    assert verdict.passed
    assert (len(verdict.run_twice), verdict.other_records_run) == (0, 1)


def test_a_job_whose_row_is_about_another_record_is_taken_over() -> None:
    for row in (replace(ROW, source=OTHER_SOURCE), replace(ROW, tag=None)):
        assert faults(reconcile(journal(), evidence(row))) == {Fault.TAKEN_OVER}


def test_tokens_of_an_attempt_that_was_lost_were_generated_twice() -> None:
    seen = evidence(replace(ROW, attempt=2), replace(COMPLETED, attempt=2))
    seen.streamed[JOB] = {1: 2, 2: 3}
    assert reconcile(journal(), seen).tokens_again == 2


def test_an_outcome_that_changed_has_ended_twice() -> None:
    seen = evidence()
    seen.outcomes_seen[JOB] = {("completed", END), ("cancelled", OTHER_END)}
    assert faults(reconcile(journal(), seen)) == {Fault.ENDED_TWICE}


def test_a_reply_for_another_end_than_the_ledgers_has_ended_twice() -> None:
    other = replace(COMPLETED, event_id=OTHER_END)
    seen = evidence(ROW, COMPLETED, other)
    seen.replies[JOB] = [(REPLIES, other)]
    assert Fault.ENDED_TWICE in faults(reconcile(journal(), seen))


@pytest.mark.parametrize(
    ("topics", "fault"),
    [
        ([], Fault.REPLY_MISSING),
        ([REPLIES, REPLIES], Fault.ANSWERED_TWICE),
        (["somewhere-else"], Fault.WRONG),
    ],
    ids=["none", "two", "in another topic"],
)
def test_a_job_gets_one_reply_in_its_topic(topics: list[str], fault: Fault) -> None:
    seen = evidence()
    seen.replies[JOB] = [(topic, COMPLETED) for topic in topics]
    assert faults(reconcile(journal(), seen)) == {fault}


def test_an_unasked_reply_is_wrong() -> None:
    unasked = replace(EXPECTED, reply_topic=None)
    assert faults(reconcile(journal(unasked), evidence())) == {Fault.WRONG}


def test_a_reply_that_may_not_be_sent_is_undeliverable_in_the_api_and_nowhere_else() -> None:
    forbidden = replace(EXPECTED, reply_topic=None, no_reply="undeliverable")
    seen = evidence()
    seen.replies.clear()
    assert faults(reconcile(journal(forbidden), seen)) == {Fault.WRONG}
    seen.api[JOB] = replace(seen.api[JOB], reply="undeliverable")
    assert reconcile(journal(forbidden), seen).passed


def test_a_reply_may_go_with_its_topic_and_is_still_sent_once() -> None:
    deleted = replace(EXPECTED, reply_stays=False)
    seen = evidence()
    seen.replies.clear()
    assert reconcile(journal(deleted), seen).passed
    seen.replies[JOB] = [(REPLIES, COMPLETED)] * 2
    assert faults(reconcile(journal(deleted), seen)) == {Fault.ANSWERED_TWICE}


@pytest.mark.parametrize(
    "row",
    [
        replace(ROW, output=replace(RIGHT, completion_tokens=2)),
        replace(ROW, output=replace(RIGHT, prompt_tokens=9)),
        replace(ROW, output=replace(RIGHT, text_digest=digest("null null "))),
        replace(ROW, status="cancelled"),
        replace(ROW, status="expired"),
        replace(ROW, terminal_event_id=OTHER_END),
    ],
    ids=["tokens", "prompt", "text", "cancelled", "expired", "unknown event"],
)
def test_another_result_or_end_than_was_asked_for_is_wrong(row: LedgerRow) -> None:
    assert Fault.WRONG in faults(reconcile(journal(), evidence(row)))


def test_an_api_that_disagrees_with_the_ledger_is_wrong() -> None:
    seen = evidence()
    seen.api[JOB] = ApiAnswer("running", Output(), reply="sent")
    assert faults(reconcile(journal(), seen)) == {Fault.WRONG}


def test_a_reply_with_another_text_is_wrong() -> None:
    seen = evidence()
    output = replace(RIGHT, text_digest=digest("another job's"))
    seen.replies[JOB] = [(REPLIES, replace(COMPLETED, output=output))]
    assert faults(reconcile(journal(), seen)) == {Fault.WRONG}


def test_a_reply_may_have_the_characters_that_the_ledger_cannot_store() -> None:
    seen = evidence(replace(ROW, output=Output(text_digest=digest("a\ufffdb"))))
    output = Output(text_digest=digest("a\0b"))
    seen.replies[JOB] = [(REPLIES, replace(COMPLETED, output=output))]
    assert reconcile(journal(replace(EXPECTED, output=Output())), seen).passed


def test_a_failure_that_nobody_asked_for_is_an_unprovoked_one() -> None:
    row = replace(ROW, status="failed", output=Output(), error="too_many_attempts")
    seen = evidence(row, replace(COMPLETED, status="failed", output=Output()))
    assert faults(reconcile(journal(), seen)) == {Fault.UNPROVOKED_FAILURE}


def test_expiry_is_right_when_it_was_asked_for_and_not_before_its_time() -> None:
    expired = replace(ROW, status="expired", output=Output())
    event = replace(COMPLETED, status="expired", output=Output())
    asked = replace(EXPECTED, statuses=frozenset({"completed", "expired"}))
    in_time = journal(replace(asked, expire_after_s=0.9))
    too_early = journal(replace(asked, expire_after_s=2.0))
    assert reconcile(in_time, evidence(expired, event)).passed
    assert faults(reconcile(too_early, evidence(expired, event))) == {Fault.WRONG}


def test_a_job_cancelled_in_the_queue_ends_by_the_ledger_s_event_in_the_topic() -> None:
    cancelled = replace(ROW, status="cancelled", output=Output(), terminal_event_id=OTHER_END)
    asked = replace(EXPECTED, statuses=frozenset({"completed", "cancelled"}), reply_topic=None)
    event = Ending(OTHER_END, "cancelled", 1, "ledger", Output(), at_s=100.0)
    without = Evidence(ledger={JOB: cancelled})
    assert reconcile(journal(asked), replace(without, endings={JOB: [event]})).passed
    assert not reconcile(journal(asked), without).passed


@pytest.mark.parametrize(
    "seen",
    [
        Evidence(touched={JOB}),
        Evidence(ledger={JOB: replace(ROW, status="queued", terminal_event_id=None)}),
        Evidence(api={JOB: ApiAnswer("queued", Output())}),
        Evidence(replies={JOB: [(REPLIES, COMPLETED)]}),
    ],
    ids=["run", "in the ledger", "in the API", "answered"],
)
def test_a_job_of_an_aborted_transaction_is_none(seen: Evidence) -> None:
    never = journal(Expectation(statuses=frozenset()))
    unknown = {JOB: ApiAnswer("unknown", Output())}
    assert reconcile(never, Evidence(api=unknown)).passed
    verdict = reconcile(never, replace(seen, api=unknown | seen.api))
    assert [len(found) for found in verdict.findings.values()] == [1]
    assert faults(verdict) == {Fault.WRONG}


def test_a_record_that_is_no_job_has_to_become_a_dead_letter() -> None:
    refused = Journal(refused={SOURCE: "null-value"})
    assert reconcile(refused, Evidence(dead_letters={SOURCE})).passed
    assert faults(reconcile(refused, Evidence(dead_letters={OTHER_SOURCE}))) == {Fault.UNSEEN}
