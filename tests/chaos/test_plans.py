"""A seed gives the same run each time."""

import random

import pytest

from niyama import KafkaSettings
from schemas import Refusal, decode_job
from tests.chaos import faults, hostile
from tests.chaos.__main__ import chosen
from tests.chaos.faults import CALM_END_S, WARM_UP_S, plan_faults
from tests.chaos.hostile import HostileRecord, Setting, plan_records
from tests.chaos.workload import Door, expectation_of, plan_jobs

WORKERS = ("worker-1", "worker-2", "worker-3")


def test_jobs_follow_from_the_seed() -> None:
    assert plan_jobs(7, 200, 60, "null") == plan_jobs(7, 200, 60, "null")
    assert plan_jobs(7, 200, 60, "null") != plan_jobs(8, 200, 60, "null")


def test_jobs_come_in_order_through_every_door_and_each_is_recognizable() -> None:
    jobs = plan_jobs(7, 500, 60, "null")
    times = [job.at_s for job in jobs]
    assert times == sorted(times)
    assert times[-1] <= 60
    assert {job.door for job in jobs} == set(Door)
    assert len({expectation_of(job, "null").tag for job in jobs}) == 500
    assert len({expectation_of(job, "null").output for job in jobs}) > 450


def test_faults_follow_from_the_seed_and_not_from_the_order_of_names() -> None:
    kinds = faults.kinds_for("null")
    plan = plan_faults(7, 600, kinds, WORKERS, 5.0)
    assert plan == plan_faults(7, 600, kinds[::-1], WORKERS[::-1], 5.0)
    assert plan != plan_faults(8, 600, kinds, WORKERS, 5.0)
    assert {fault.kind for fault in plan} == set(kinds)


def test_faults_are_bounded_and_leave_a_calm_beginning_and_end() -> None:
    plan = plan_faults(7, 600, faults.kinds_for("null"), WORKERS, 5.0)
    assert all(fault.at_s > WARM_UP_S for fault in plan)
    assert all(fault.at_s <= 600 - CALM_END_S for fault in plan)
    assert all(fault.at_s + fault.duration_s <= 600 for fault in plan)


def test_hostile_records_follow_from_the_seed() -> None:
    kinds = hostile.kinds_for("null")
    assert plan_records(7, 600, kinds) == plan_records(7, 600, kinds[::-1])
    assert plan_records(7, 600, kinds) != plan_records(8, 600, kinds)


def _made(kind: str, salt: str) -> HostileRecord:
    topics = KafkaSettings().topics
    setting = Setting(random.Random(salt), topics, "null", "null", running=(), published=())
    return hostile.KINDS[kind].make(setting)


@pytest.mark.parametrize("kind", sorted(set(hostile.KINDS) - {"odd-timestamp"}))
def test_a_hostile_record_follows_from_its_salt(kind: str) -> None:
    assert _made(kind, "7/1.5") == _made(kind, "7/1.5")


@pytest.mark.parametrize("salt", range(20))
def test_records_that_must_be_refused_are_no_jobs(salt: int) -> None:
    record = _made("refused-job", str(salt))
    decoded = decode_job(record.value)
    # The rest is refused for what only a worker knows: its classes, its model, its context.
    if not isinstance(decoded, Refusal):
        assert (
            decoded.qos == "gold"
            or decoded.model == "another"
            or len(decoded.prompt or "") > 32_768
        )


def test_kinds_are_chosen_by_name_and_by_set() -> None:
    known = ["a", "b", "c"]
    assert chosen("all", known) == ("a", "b", "c")
    assert chosen("all,-b", known) == ("a", "c")
    assert chosen("-a", known) == ("b", "c")
    assert chosen("none", known) == ()
    assert chosen("c,a", known) == ("c", "a")
    with pytest.raises(SystemExit, match="no kind 'd'"):
        chosen("d", known)
