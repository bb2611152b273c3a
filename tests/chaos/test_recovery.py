"""Recovery times, by worked examples."""

import math

from tests.chaos.faults import InjectedFault
from tests.chaos.recovery import IN_A_ROW, ServedChat, normal_overhead_s, recoveries


def chats(*, slow: range, until: int = 60) -> list[ServedChat]:
    """A chat a second; those of `slow` take 5 s longer than the others' 0.1 s."""
    return [ServedChat(at, at + (5.1 if at in slow else 0.1), service_s=0.0) for at in range(until)]


def killed(at_s: float) -> InjectedFault:
    return InjectedFault("worker-kill", "worker-1", at_s, at_s)


def test_the_time_from_the_fault_to_the_first_of_enough_fast_chats() -> None:
    (found,) = recoveries([killed(20.0)], chats(slow=range(21, 27)), normal_s=0.5)
    assert (found.median_s, found.max_s, found.measured) == (7.0, 7.0, 1)


def test_a_few_fast_chats_between_slow_ones_are_no_recovery() -> None:
    between = range(24, 24 + IN_A_ROW - 1)
    some = chats(slow=range(21, 35))
    for at in between:
        some[at] = ServedChat(at, at + 0.1, service_s=0.0)
    (found,) = recoveries([killed(20.0)], some, normal_s=0.5)
    assert found.median_s == 35 - 20


def test_a_fault_that_the_next_one_overtakes_is_not_measured() -> None:
    faults = [killed(20.0), killed(23.0)]
    (found,) = recoveries(faults, chats(slow=range(21, 27)), normal_s=0.5)
    assert found.overtaken == 1
    assert (found.measured, found.max_s) == (1, 4.0)


def test_a_fault_that_the_end_overtakes_is_not_measured() -> None:
    (found,) = recoveries([killed(20.0)], chats(slow=range(20, 55)), normal_s=0.5)
    assert (found.measured, found.overtaken) == (0, 1)


def test_normal_is_twice_the_worst_of_the_calm_beginning() -> None:
    calm = [ServedChat(0.0, 1.4, service_s=0.5)]  # 1.4 - 1.3 * 0.5
    assert math.isclose(normal_overhead_s(calm, until_s=10), 1.5)
