"""What was promised against what is there. Pure: no I/O, no clock."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from uuid import UUID

from tests.chaos.evidence import Ending, Evidence, LedgerRow
from tests.chaos.journal import ENDS, AcknowledgedJob, Journal

MAX_RUN_TWICE = 0.02
"""Of all jobs. Offsets are committed in intervals, so a kill may repeat what ended just before."""
CLOCK_SLACK_S = 0.05


class Fault(StrEnum):
    """What can be wrong with a job. The text is the line of the report."""

    LOST = "lost"
    """Acknowledged, and not in the ledger."""
    TAKEN_OVER = "taken over"
    """The ledger has another record with its id as the job."""
    STUCK = "stuck"
    """In the ledger, and still open after the settle time."""
    ENDED_TWICE = "ended twice"
    """Two outcomes were shown, or a reply was sent for one that the ledger does not have."""
    ANSWERED_TWICE = "answered twice"
    REPLY_MISSING = "reply missing"
    WRONG = "wrong"
    """Not the result, or not the end, that the job asked for."""
    UNPROVOKED_FAILURE = "unprovoked failures"
    """Failed, though nothing but faults from outside happened to it."""
    UNSEEN = "refused in silence"
    """A record that is no job, and is not among the dead letters."""


@dataclass(frozen=True, slots=True)
class Finding:
    job_id: UUID | None
    """None: about a record that is no job."""
    origin: str
    sentence: str


@dataclass(slots=True)
class Verdict:
    """The outcome of a run."""

    jobs: int
    statuses: Counter[str] = field(default_factory=Counter)
    findings: dict[Fault, list[Finding]] = field(default_factory=lambda: defaultdict(list))
    run_twice: list[Finding] = field(default_factory=list)
    """Jobs whose record completed more than once. Only the first counted."""
    other_records_run: int = 0
    """Jobs of which another record with their id completed, too. It counted for nothing."""
    tokens: int = 0
    """Of all completed jobs."""
    tokens_again: int = 0
    """Generated, at least, for jobs that had them already or had to begin again."""

    @property
    def run_twice_share(self) -> float:
        return len(self.run_twice) / max(1, self.jobs)

    @property
    def passed(self) -> bool:
        return not any(self.findings.values()) and self.run_twice_share <= MAX_RUN_TWICE


Check = Callable[[AcknowledgedJob, LedgerRow, Evidence], Iterator[tuple[Fault, str]]]


def reconcile(journal: Journal, evidence: Evidence) -> Verdict:
    """Judge every acknowledged job by everything that was seen of it."""
    verdict = Verdict(jobs=len(journal.jobs))
    for job in journal.jobs.values():
        row = evidence.ledger.get(job.job_id)
        verdict.statuses[_status_name(job, row)] += 1
        for fault, sentence in _judge(job, row, evidence):
            verdict.findings[fault].append(Finding(job.job_id, job.origin, sentence))
        _count_repetitions(job, evidence, verdict)
    for source, kind in journal.refused.items():
        if source not in evidence.dead_letters:
            finding = Finding(None, f"hostile {kind}", f"{source} is not among the dead letters")
            verdict.findings[Fault.UNSEEN].append(finding)
    return verdict


def _status_name(job: AcknowledgedJob, row: LedgerRow | None) -> str:
    if row is not None:
        return row.status
    return "unknown" if job.expectation.statuses else "aborted by the producer"


def _judge(
    job: AcknowledgedJob, row: LedgerRow | None, evidence: Evidence
) -> Iterator[tuple[Fault, str]]:
    if not job.expectation.statuses:
        yield from _is_no_job(job, row, evidence)
    elif row is None:
        seen = _told(evidence.endings.get(job.job_id, ()))
        yield Fault.LOST, f"not in the ledger; the events topic has: {seen or 'no end'}"
    elif row.status not in ENDS:
        seen = _told(evidence.endings.get(job.job_id, ()))
        yield Fault.STUCK, f"still {row.status}; the events topic has: {seen or 'no end'}"
    elif _is_taken_over(job, row):
        yield Fault.TAKEN_OVER, f"by {row.source}, {row.status} (tag {row.tag}): {row.error}"
    else:
        yield from chain.from_iterable(check(job, row, evidence) for check in _CHECKS)


def _is_taken_over(job: AcknowledgedJob, row: LedgerRow) -> bool:
    other_tag = job.expectation.tag is not None and row.tag != job.expectation.tag
    return other_tag or (job.source is not None and row.source != job.source)


def _is_no_job(
    job: AcknowledgedJob, row: LedgerRow | None, evidence: Evidence
) -> Iterator[tuple[Fault, str]]:
    answer = evidence.api.get(job.job_id)
    seen = {
        "a worker ran it": job.job_id in evidence.touched,
        "the ledger has it": row is not None,
        "the API knows it": answer is not None and answer.status != "unknown",
        "it was answered": bool(evidence.replies.get(job.job_id)),
    }
    for sentence, is_so in seen.items():
        if is_so:
            yield Fault.WRONG, f"{sentence}, and its transaction was aborted"


def _status(job: AcknowledgedJob, row: LedgerRow, _: Evidence) -> Iterator[tuple[Fault, str]]:
    expected = job.expectation
    if row.status not in expected.statuses:
        fault = Fault.UNPROVOKED_FAILURE if row.status == "failed" else Fault.WRONG
        wanted = " or ".join(sorted(expected.statuses))
        yield fault, f"{row.status} instead of {wanted}: {row.error} (attempt {row.attempt})"
    elif row.status == "expired" and expected.expire_after_s is not None:
        if row.arrived_at_s is None or row.finished_at_s is None:
            yield Fault.WRONG, "expired, without an arrival or an end"
        elif row.finished_at_s - row.arrived_at_s < expected.expire_after_s - CLOCK_SLACK_S:
            lived_s = row.finished_at_s - row.arrived_at_s
            yield Fault.WRONG, f"expired after {lived_s:.3f} of {expected.expire_after_s:.3f} s"


def _result(
    job: AcknowledgedJob, row: LedgerRow, evidence: Evidence
) -> Iterator[tuple[Fault, str]]:
    expected = job.expectation
    if row.status == "completed" and expected.output.contradicts(row.output):
        yield (
            Fault.WRONG,
            f"the ledger has {row.output} (attempt {row.attempt}), not {expected.output}; "
            f"ends: {_told(evidence.endings.get(job.job_id, ()))}",
        )
    if (answer := evidence.api.get(job.job_id)) is None:
        return
    if answer.status != row.status:
        yield Fault.WRONG, f"the API says {answer.status}, the ledger {row.status}"
    elif row.status == "completed" and answer.output.contradicts(row.output):
        yield Fault.WRONG, f"the API has {answer.output}, the ledger {row.output}"


def _one_end(
    job: AcknowledgedJob, row: LedgerRow, evidence: Evidence
) -> Iterator[tuple[Fault, str]]:
    endings = evidence.endings.get(job.job_id, ())
    known = {each.event_id for each in endings}
    if row.terminal_event_id not in known:
        yield Fault.WRONG, f"{row.status} in the ledger by an event that is not in its topic"
    shown = evidence.outcomes_seen.get(job.job_id, set())
    for status, event_id in sorted(shown, key=str):
        if event_id != row.terminal_event_id:
            yield Fault.ENDED_TWICE, f"was {status} by {event_id}, then {row.status}"


def _reply(job: AcknowledgedJob, row: LedgerRow, evidence: Evidence) -> Iterator[tuple[Fault, str]]:
    wanted = job.expectation.reply_topic
    replies = evidence.replies.get(job.job_id, [])
    if wanted is not None and not replies and job.expectation.reply_stays:
        yield Fault.REPLY_MISSING, f"{row.status}, and nothing in {wanted}"
    if len(replies) > 1:
        yield Fault.ANSWERED_TWICE, f"replies: {_told(reply for _, reply in replies)}"
    for topic, reply in replies:
        if topic != wanted:
            yield Fault.WRONG, f"a reply in {topic} instead of {wanted}"
        if reply.event_id != row.terminal_event_id:
            yield Fault.ENDED_TWICE, f"{reply.status} in the reply, {row.status} in the ledger"
        elif reply.status == "completed" and reply.output.contradicts(row.output):
            yield Fault.WRONG, f"the reply has {reply.output}, the ledger {row.output}"


def _reply_state(
    job: AcknowledgedJob, _: LedgerRow, evidence: Evidence
) -> Iterator[tuple[Fault, str]]:
    expected = job.expectation
    state = expected.no_reply or ("sent" if expected.reply_topic else None)
    answer = evidence.api.get(job.job_id)
    if answer is not None and answer.reply != state:
        yield Fault.WRONG, f"the API says of its reply: {answer.reply}, not {state}"


def _told(endings: Iterable[Ending]) -> str:
    return ", ".join(
        f"{each.status} in attempt {each.attempt} on {each.worker_id}" for each in endings
    )


_CHECKS: tuple[Check, ...] = (_status, _result, _one_end, _reply, _reply_state)


def _count_repetitions(job: AcknowledgedJob, evidence: Evidence, verdict: Verdict) -> None:
    row = evidence.ledger.get(job.job_id)
    source = row.source if row else job.source
    everything = evidence.endings.get(job.job_id, [])
    others = [each for each in everything if source and each.source not in (None, source)]
    endings = [each for each in everything if each not in others]
    completions = [each for each in endings if each.status == "completed"]
    verdict.tokens += sum(each.output.completion_tokens or 0 for each in completions[:1])
    verdict.tokens_again += sum(each.output.completion_tokens or 0 for each in completions[1:])
    ended = {each.attempt for each in everything} | {row.attempt if row else 0}
    verdict.tokens_again += sum(
        tokens
        for attempt, tokens in evidence.streamed.get(job.job_id, {}).items()
        if attempt not in ended
    )
    if len(completions) > 1:
        verdict.run_twice.append(Finding(job.job_id, job.origin, _told(completions)))
    verdict.other_records_run += any(each.status == "completed" for each in others)
