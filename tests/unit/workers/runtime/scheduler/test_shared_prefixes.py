"""Requests that begin alike, at SGLang's seams: what one computes the others find in the cache."""

import pytest

from tests.support.requests import FLAT_MODEL
from tests.support.sglang import FakeEngine, FakeRequest, about, request
from workers.policy.settings import Settings, TokenTiming
from workers.runtime.scheduler.prefix_keys import prefix_keys


@pytest.fixture(params=[False, True], ids=["in step", "overlapped"])
def engine(request: pytest.FixtureRequest) -> FakeEngine:
    settings = Settings(token_timing=TokenTiming.GAPS, max_chunk_tokens=256)
    return FakeEngine(FLAT_MODEL, settings, overlap=request.param)


def chat(name: str, prompt_tokens: int) -> FakeRequest:
    return request(name, prompt_tokens, ttft_ms=6000, tbt_ms=200)


def computed(engine: FakeEngine) -> int:
    return sum(tokens for iteration in engine.launched for tokens in iteration.values())


@pytest.mark.parametrize("prompt_tokens", [200, 1_000])
def test_a_burst_about_one_document_computes_it_once(
    engine: FakeEngine, prompt_tokens: int
) -> None:
    """Of those that wait one token is left: the last of a prompt is always computed."""
    engine.arrive(*(about("document", chat(f"{i}", prompt_tokens)) for i in range(5)))
    engine.run()
    assert computed(engine) == prompt_tokens + 4
    assert len(engine.niyama.requests._driver.policy._backlog.prefixes) == 0


def test_others_are_not_kept_waiting_meanwhile(engine: FakeEngine) -> None:
    siblings = [about("document", chat(f"{i}", 150)) for i in range(2)]
    engine.arrive(*siblings, chat("other", 100))
    engine.run()
    assert engine.launched[0] == {"0": 150, "other": 100}


def test_who_computes_it_may_be_aborted(engine: FakeEngine) -> None:
    engine.arrive(*(about("document", chat(f"{i}", 1_000)) for i in range(3)))
    engine.step()
    engine.abort("0")
    engine.run()
    assert computed(engine) <= 1_000 + 256 + 2
    assert len(engine.niyama.requests._driver.policy._backlog.prefixes) == 0


def test_keys_are_equal_where_the_text_and_its_namespace_are() -> None:
    one, longer = chat("a", 300), chat("b", 1_000)
    for each in (one, longer):
        each.extra_key = None
    assert [key.tokens for key in prefix_keys(one)] == [64, 128, 192, 256]
    assert prefix_keys(longer)[:4] == prefix_keys(one)
    longer.origin_input_ids[70] = 7
    assert prefix_keys(longer)[0] == prefix_keys(one)[0]
    assert prefix_keys(longer)[1] != prefix_keys(one)[1]
    one.cache_salt = "tenant"
    assert prefix_keys(longer)[0] != prefix_keys(one)[0]
    one.session = object()
    assert prefix_keys(one) == ()


def test_what_sglang_does_not_look_up_has_no_keys() -> None:
    one = chat("a", 300)
    one.return_logprob, one.logprob_start_len = True, 128
    assert [key.tokens for key in prefix_keys(one)] == [64, 128]
    one.logprob_start_len = -1
    assert len(prefix_keys(one)) == 4
    one.positional_embed_overrides = object()
    assert prefix_keys(one) == ()
