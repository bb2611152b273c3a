"""What a generation produced, and when."""

import pytest

from workers.engine.port import FinishReason, GenerationUpdate, TokenLogprob
from workers.execution.output import Output


def _update(
    text: str, done: int, tokens: int = 1, finish: FinishReason | None = None
) -> GenerationUpdate:
    return GenerationUpdate(text, tuple(range(tokens)), 9, done, 4, finish)


def test_the_first_token_is_reported_once_and_the_largest_gap_is_kept() -> None:
    output = Output()
    times = [(10.0, True), (10.1, False), (10.4, False), (10.5, False)]
    for number, (now_s, first) in enumerate(times, 1):
        assert output.add(_update("a", number), now_s) is first
    assert output.largest_gap_ms == pytest.approx(300)
    assert (output.usage.prompt_tokens, output.usage.completion_tokens) == (9, 4)
    assert output.usage.cached_tokens == 4


def test_an_update_without_tokens_is_no_first_token_and_no_gap() -> None:
    output = Output()
    assert not output.add(_update("", 0, tokens=0), 1.0)
    assert output.add(_update("a", 1), 2.0)
    output.add(_update("", 1, tokens=0, finish=FinishReason.STOP), 9.0)
    assert output.largest_gap_ms is None
    assert output.result().finish_reason == "stop"


def test_log_probabilities_have_openai_s_form() -> None:
    output = Output()
    other = TokenLogprob(2, "é", -2.0)
    update = GenerationUpdate(
        "a", (1,), 1, 1, 0, FinishReason.LENGTH, (TokenLogprob(1, "a", -0.5, (other,)),)
    )
    output.add(update, 1.0)
    assert output.result().logprobs == [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [
                {"token": "é", "logprob": -2.0, "bytes": [195, 169], "top_logprobs": []}
            ],
        }
    ]


def test_token_ids_are_kept_on_request() -> None:
    for keep, expected in ((True, [0, 1]), (False, None)):
        output = Output(keep_token_ids=keep)
        output.add(_update("ab", 2, tokens=2, finish=FinishReason.LENGTH), 1.0)
        assert output.result().token_ids == expected
