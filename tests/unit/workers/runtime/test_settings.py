"""The policy's settings on their way into SGLang's processes."""

import pytest
from pydantic import ValidationError

from workers.policy.settings import TokenTiming
from workers.runtime.settings import SchedulingSettings


def test_another_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SchedulingSettings(token_timing=TokenTiming.ENVELOPE, size_bias=0.25)
    for name, value in settings.variables().items():
        monkeypatch.setenv(name, value)
    assert SchedulingSettings() == settings


def test_without_a_worker_no_tokens_are_held_back() -> None:
    assert SchedulingSettings().token_timing is TokenTiming.GAPS


def test_a_wrong_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIYAMA_TOKEN_TIMING", "smooth")
    with pytest.raises(ValidationError, match="'envelope', 'gaps' or 'paced'"):
        SchedulingSettings()
