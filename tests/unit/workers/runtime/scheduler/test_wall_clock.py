"""The wall clock, followed."""

from dataclasses import dataclass

import pytest

from workers.runtime.scheduler.wall_clock import STEP_S, WallClock

EPOCH_S = 1_800_000_000.0


@dataclass
class Machine:
    """Both clocks of a machine, and what is done to them."""

    monotonic_s: float = 50.0
    wall_s: float = EPOCH_S
    preempted_s: float = 0.0
    """How long the process loses its core, the next time it reads the wall clock."""

    def passes(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_s += seconds

    def wall(self) -> float:
        wall_s = self.wall_s
        self.passes(self.preempted_s)
        self.preempted_s = 0.0
        return wall_s

    def clock(self) -> WallClock:
        return WallClock(self.wall, lambda: self.monotonic_s)


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, 2.0, -2.0])
def test_a_step_is_taken_at_once(step_s: float) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.passes(10.0)
    machine.wall_s += step_s
    assert clock.now() == (EPOCH_S + 10.0 + step_s, 60.0)
    machine.passes(1.0)
    assert clock.now() == (EPOCH_S + 11.0 + step_s, 61.0)


@pytest.mark.parametrize("difference_s", [0.4, -0.4])
def test_a_small_difference_is_made_up_and_time_never_runs_back(difference_s: float) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall_s += difference_s
    before_s = clock.now().epoch_s
    for _ in range(1000):
        machine.passes(0.01)
        now_s = clock.now().epoch_s
        assert 0.009 < now_s - before_s < 0.011
        before_s = now_s
    assert before_s == pytest.approx(machine.wall_s)


def test_a_process_that_loses_its_core_between_two_readings_sees_no_step() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.preempted_s = 10 * STEP_S
    assert clock.now().epoch_s == pytest.approx(machine.wall_s)
    assert clock.now().offset_s == pytest.approx(EPOCH_S - 50.0)
