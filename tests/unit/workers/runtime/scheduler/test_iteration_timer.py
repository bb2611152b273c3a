"""How long iterations take."""

from workers.runtime.scheduler.iteration_timer import IterationTimer


def test_the_first_iteration_after_idling_counts_from_its_launch() -> None:
    timer = IterationTimer()
    timer.launched(100.0, after_idle=True)
    timer.ended(100.5)
    assert timer.take() == [0.5]


def test_later_ones_count_from_the_end_of_the_one_before() -> None:
    timer = IterationTimer()
    timer.launched(100.0, after_idle=True)
    timer.ended(100.5)
    timer.launched(100.625, after_idle=False)
    timer.ended(101.0)
    assert timer.take() == [0.5, 0.5]
    assert timer.take() == []


def test_overlapped_iterations_are_not_counted_twice() -> None:
    timer = IterationTimer()
    timer.launched(100.0, after_idle=True)
    timer.launched(100.125, after_idle=False)
    timer.ended(100.5)
    timer.ended(101.0)
    assert timer.take() == [0.5, 0.5]
