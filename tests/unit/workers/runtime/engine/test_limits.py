"""How long requests can be."""

import pytest

from workers.engine.port import PromptTooLong
from workers.runtime.engine.limits import TokenLimits

LIMITS = TokenLimits(context_tokens=8192, kv_tokens=65536, max_prompt_tokens=8186)


def test_a_request_gets_what_it_wants_where_there_is_room() -> None:
    assert LIMITS.max_tokens(prompt_tokens=100, wanted_tokens=256) == 256


def test_the_context_bounds_what_is_generated() -> None:
    assert LIMITS.max_tokens(prompt_tokens=8000, wanted_tokens=1_000_000) == 190  # 8192 - 2 - 8000
    assert LIMITS.max_tokens(prompt_tokens=8000, wanted_tokens=None) == 190


def test_a_small_kv_cache_bounds_it_too() -> None:
    small = TokenLimits(context_tokens=8192, kv_tokens=1024, max_prompt_tokens=1018)
    assert small.max_tokens(prompt_tokens=1000, wanted_tokens=500) == 22  # 1024 - 2 - 1000


def test_a_prompt_that_does_not_fit_says_what_would() -> None:
    assert LIMITS.max_tokens(prompt_tokens=8185, wanted_tokens=1) == 1
    with pytest.raises(PromptTooLong, match=r"has 8186 tokens; this worker takes at most 8185"):
        LIMITS.max_tokens(prompt_tokens=8186, wanted_tokens=1)
