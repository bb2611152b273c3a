"""SGLang's admission counts what the plan counts: no memory is kept twice for answers."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of kernels that this machine has no device for
    from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder
    from sglang.srt.mem_cache.prefill_budget import PrefillBudget

    from workers.runtime.scheduler.sglang_calls import PlannedAdder

FREE_TOKENS = 1_000
MAX_NEW_TOKENS = 2_000


class _Tree:
    disable = False
    buffer_pipeline = None

    def supports_mamba(self) -> bool:
        return False

    def supports_prefix_sharing(self) -> bool:
        return True

    def evictable_size(self) -> int:
        return 0


class _Allocator:
    page_size = 1

    def available_size(self) -> int:
        return FREE_TOKENS

    def create_prefill_budget(self, tree: _Tree, *, num_mixed_decode_tokens: int) -> Any:
        return PrefillBudget(self, tree, num_mixed_decode_tokens=num_mixed_decode_tokens)


def _request(prompt_tokens: int) -> Any:
    return SimpleNamespace(
        sampling_params=SimpleNamespace(max_new_tokens=MAX_NEW_TOKENS, ignore_eos=False),
        output_ids=[],
        full_untruncated_fill_ids=[0] * prompt_tokens,
        auxiliary_swa_host_hit_length=0,
    )


def _adder(kind: type[PrefillAdder]) -> Any:
    """Beside a request that runs, and may have as many tokens as there is memory for, twice."""
    running = SimpleNamespace(reqs=[_request(100)])
    return kind(1, _Tree(), _Allocator(), running, 0.7, 8_192, 512, num_mixed_decode_tokens=1)


def _admits(adder: Any, prompt_tokens: int) -> bool:
    """As `add_one_req` asks: for the prompt, its answer, and a page."""
    admits, _ = adder._check_prefill_budget(
        _request(prompt_tokens),
        extend_input_len=prompt_tokens,
        total_tokens=prompt_tokens + MAX_NEW_TOKENS + 1,
        swa_host_hit_length=0,
        chunk_limit=512,
    )
    return bool(admits)


@pytest.mark.parametrize(("kind", "admits"), [(PrefillAdder, False), (PlannedAdder, True)])
def test_a_prompt_that_fits_is_admitted_however_long_answers_may_be(
    kind: type[PrefillAdder], admits: bool
) -> None:
    assert _admits(_adder(kind), 300) is admits


def test_a_prompt_that_does_not_fit_is_refused() -> None:
    assert not _admits(_adder(PlannedAdder), FREE_TOKENS)


def test_a_second_prompt_finds_what_the_first_has_left() -> None:
    adder = _adder(PlannedAdder)
    adder._update_prefill_budget(0, 300, MAX_NEW_TOKENS, False)
    assert adder.budget_state() == AddReqResult.CONTINUE
    assert _admits(adder, 600)
    assert not _admits(adder, 700)
