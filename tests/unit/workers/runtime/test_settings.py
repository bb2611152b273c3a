"""The policy's settings on their way into SGLang's processes."""

from dataclasses import fields

import pytest
from pydantic import ValidationError

from workers.engine.scheduling import SchedulingOptions
from workers.policy.settings import Settings, TokenTiming
from workers.runtime.settings import SchedulingSettings


def test_another_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SchedulingSettings(
        token_timing=TokenTiming.ENVELOPE, size_bias=0.25, park=False, lookahead_base_s=7.5
    )
    for name, value in settings.variables().items():
        monkeypatch.setenv(name, value)
    assert SchedulingSettings() == settings


_NO_OPTIONS = {
    "max_chunk_tokens": "SGLang's --chunked-prefill-size",
    "calibrate": "for ablation",
    "learn_answer_lengths": "for ablation",
    "count_drafts": "for ablation",
    "discount_cached_prefixes": "for ablation",
    "share_tasks": "for ablation",
    "srpf_weight_high_s": "the paper's",
    "srpf_weight_low_s": "the paper's",
}


def test_operators_reach_every_setting_that_trades_something() -> None:
    options = set(SchedulingOptions.model_fields)
    assert options.isdisjoint(_NO_OPTIONS)
    assert options | set(_NO_OPTIONS) == {field.name for field in fields(Settings)}
    assert SchedulingOptions().policy_settings() == Settings()


def test_tokens_are_held_back_more_and_not_less_under_pressure() -> None:
    with pytest.raises(ValidationError, match="--hold-full must be above --hold-from"):
        SchedulingOptions(hold_from=0.5, hold_full=0.5)


def test_without_a_worker_no_tokens_are_held_back() -> None:
    assert SchedulingSettings().token_timing is TokenTiming.GAPS


def test_a_wrong_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIYAMA_TOKEN_TIMING", "smooth")
    with pytest.raises(ValidationError, match="'envelope', 'gaps' or 'paced'"):
        SchedulingSettings()
