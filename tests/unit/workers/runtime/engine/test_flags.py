"""Arguments that nobody knows."""

import pytest

from workers.runtime.engine.flags import explain_unknown

SGLANG = ("--tp-size", "--tensor-parallel-size", "--mem-fraction-static", "--max-queued-requests")
WORKER = ("--model", "--max-batch-jobs", "--drain-limit-s")


def explained(*arguments: str) -> str | None:
    return explain_unknown(arguments, SGLANG, WORKER)


def test_a_misspelled_flag_of_the_worker_is_suggested() -> None:
    assert explained("--tp-size", "2", "--max-batch-job", "5") == (
        "unknown argument --max-batch-job: did you mean --max-batch-jobs (of niyama worker)? "
        "`niyama worker --help` lists the worker's own arguments, "
        "`python -m sglang.launch_server --help` SGLang's"
    )


def test_a_misspelled_flag_of_sglang_is_suggested() -> None:
    sentence = explained("--mem-fraktion-static=0.3")
    assert sentence is not None
    assert "--mem-fraktion-static: did you mean --mem-fraction-static (of SGLang)?" in sentence


def test_what_resembles_nothing_is_named_without_a_suggestion() -> None:
    sentence = explained("--frobnicate")
    assert sentence is not None
    assert sentence.startswith("unknown argument --frobnicate; `niyama worker --help`")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--tp-size", "2"),
        ("--tp-size=2",),
        ("--mem-fraction", "0.3"),  # the beginning of a flag, as argparse takes it
        ("--mem-fraction=0.3",),
        ("--t", "2"),  # ambiguous: SGLang says so
        ("--tp-size", "-1"),
        ("--",),
        ("--tp-size", "--a value with blanks"),
    ],
)
def test_what_sglang_takes_is_its_own_affair(arguments: tuple[str, ...]) -> None:
    assert explained(*arguments) is None
