"""Splitting a time into parts."""

from niyama.time_walk import walk


def test_each_moment_counts_once_whatever_is_said_of_it() -> None:
    steps = [("first", 12.0), ("nothing", 11.0), ("second", 13.0), ("first", 99.0), ("last", None)]
    assert walk(10.0, 15.0, steps) == ({"first": 4.0, "second": 1.0}, 15.0)


def test_a_time_that_ends_before_it_begins_has_no_parts() -> None:
    assert walk(10.0, 9.0, [("all", None)]) == ({}, 10.0)
