"""Suggestions for misspelled names."""

import pytest

from niyama.suggestions import suggest, with_suggestions

FLAGS = ["--help", "--log-level", "--model", "--api-port", "--size-bias"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--lgo-level", "--log-level"),
        ("--log_level", "--log-level"),
        ("--modle=tiny", "--model"),
        ("--port", "--api-port"),
    ],
)
def test_a_similar_flag_is_suggested(given: str, meant: str) -> None:
    assert suggest(given, FLAGS) == meant


@pytest.mark.parametrize("given", ["--tp-size", "--quantization", "-x", "2"])
def test_nothing_is_suggested_when_nothing_is_similar(given: str) -> None:
    assert suggest(given, FLAGS) is None


def test_unknown_arguments_are_repeated_with_what_they_may_have_meant() -> None:
    unknown = ["--lgo-level", "info", "--modle=tiny", "--tp-size", "2"]
    text = "--lgo-level info --modle=tiny --tp-size 2; did you mean --log-level --model?"
    assert with_suggestions(unknown, FLAGS) == text
    assert with_suggestions(["--tp-size", "2"], FLAGS) == "--tp-size 2"
