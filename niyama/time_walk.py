"""Splits a time into parts, each moment counted once."""

from collections.abc import Iterable
from typing import TypeVar

PartT = TypeVar("PartT", bound=str)


def walk(
    since_s: float, end_s: float, steps: Iterable[tuple[PartT, float | None]]
) -> tuple[dict[PartT, float], float]:
    """The seconds of each part that took time, and how far `steps` have led.

    Steps are parts that follow each other, and when each ends, all on one clock; None: not yet. One
    that ends before it begins took no time. Nothing after `end_s` counts.
    """
    seconds: dict[PartT, float] = {}
    now_s = since_s
    for part, until_s in steps:
        to_s = end_s if until_s is None else min(until_s, end_s)
        if to_s > now_s:
            seconds[part] = seconds.get(part, 0.0) + to_s - now_s
            now_s = to_s
    return seconds, now_s
