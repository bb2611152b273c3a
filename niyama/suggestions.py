"""What someone who misspelled a command or a flag probably meant."""

import difflib
from collections.abc import Collection, Sequence

_MIN_SIMILARITY = 0.7
"""Of two names, from 0 to 1: high enough that `--tp-size` does not suggest `--size-bias`."""


def suggest(given: str, known: Collection[str]) -> str | None:
    """The one among `known` that looks most like `given`; None when none does.

    `given` is a command or a flag, which may carry its value: `--flag=value`.
    """
    name = given.partition("=")[0]
    matches = difflib.get_close_matches(name, known, n=1, cutoff=_MIN_SIMILARITY)
    return matches[0] if matches else None


def with_suggestions(unknown: Sequence[str], known: Collection[str]) -> str:
    """The `unknown` arguments as they were given, and which of the flags `known` they resemble."""
    flags = [argument for argument in unknown if argument.startswith("-")]
    meant = dict.fromkeys(filter(None, (suggest(flag, known) for flag in flags)))
    question = f"; did you mean {' '.join(meant)}?" if meant else ""
    return f"{' '.join(unknown)}{question}"
