"""What hangs is found, and what only waits is not."""

from workers.engine.watchdog import Watchdog


def ticks(watchdog: Watchdog, count: int) -> list[str | None]:
    return [watchdog.tick() for _ in range(count)]


def test_silence_beyond_the_limit_is_a_hang() -> None:
    watchdog = Watchdog(limit_s=3.0)
    watchdog.watch("the engine")
    assert ticks(watchdog, 4) == [None, None, None, "the engine"]


def test_signs_of_life_start_the_count_again() -> None:
    watchdog = Watchdog(limit_s=3.0)
    engine = watchdog.watch("the engine")
    for _ in range(10):
        assert ticks(watchdog, 3) == [None] * 3
        engine.alive()
    assert watchdog.silence_s == 0


def test_each_of_several_has_to_show_signs_of_life() -> None:
    watchdog = Watchdog(limit_s=3.0)
    lively, _ = watchdog.watch("lively"), watchdog.watch("frozen")
    ticks(watchdog, 3)
    lively.alive()
    assert watchdog.tick() == "frozen"


def test_nothing_is_expected_of_what_has_no_work() -> None:
    watchdog = Watchdog(limit_s=3.0)
    for _ in range(10):
        with watchdog.running("the tokenizer"):
            assert ticks(watchdog, 2) == [None, None]
    assert ticks(watchdog, 100) == [None] * 100


def test_work_that_does_not_end_is_a_hang_beside_other_work_that_does() -> None:
    watchdog = Watchdog(limit_s=3.0)
    with watchdog.running("the tokenizer"):
        for _ in range(3):
            with watchdog.running("another"):
                assert watchdog.tick() is None
        assert watchdog.tick() == "the tokenizer"
