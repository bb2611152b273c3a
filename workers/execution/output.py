"""What one generation has produced so far."""

from dataclasses import dataclass, field
from typing import Any, Literal

from schemas import JobResult, Usage
from workers.engine.port import FinishReason, GenerationUpdate, TokenLogprob
from workers.policy.decision import Decision

_RESULT_REASONS: dict[FinishReason, Literal["stop", "length"]] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
}


@dataclass(slots=True)
class Output:
    """Text, counts and the largest gap between two updates, over one generation."""

    keep_token_ids: bool = False
    """Return token ids, too: the job's prompt came as token ids."""
    finish_reason: FinishReason | None = None
    ended_by: Decision | None = None
    """The scheduler's decision that ended the generation, if one did."""
    _usage: tuple[int, int, int] = (0, 0, 0)
    _last_token_s: float | None = None
    _largest_gap_s: float | None = None
    _texts: list[str] = field(default_factory=list)
    _token_ids: list[int] = field(default_factory=list)
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    """As they came: in a result's form they take several times as much memory."""

    def add(self, update: GenerationUpdate, now_s: float) -> bool:
        """Add an update received at `now_s` (monotonic). True when it has the first token."""
        self._usage = (update.prompt_tokens, update.completion_tokens, update.cached_tokens)
        self.finish_reason, self.ended_by = update.finish_reason, update.ended_by
        self._texts.append(update.text_delta)
        if self.keep_token_ids:
            self._token_ids += update.token_ids
        self._logprobs += update.logprobs or ()
        if not update.token_ids:
            return False
        is_first = self._last_token_s is None
        if self._last_token_s is not None:
            self._largest_gap_s = max(self._largest_gap_s or 0.0, now_s - self._last_token_s)
        self._last_token_s = now_s
        return is_first

    @property
    def usage(self) -> Usage:
        prompt, completion, cached = self._usage
        return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)

    @property
    def largest_gap_ms(self) -> float | None:
        """None with fewer than two updates that have tokens."""
        return None if self._largest_gap_s is None else self._largest_gap_s * 1000

    def result(self) -> JobResult:
        """The whole result, once the model or a token limit has ended the generation."""
        assert self.finish_reason is not None
        return JobResult(
            text="".join(self._texts),
            token_ids=self._token_ids if self.keep_token_ids else None,
            finish_reason=_RESULT_REASONS[self.finish_reason],
            logprobs=[_logprob(token) for token in self._logprobs] or None,
        )


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    """OpenAI's form: the token, its bytes, its log probability, its alternatives."""
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(token.text.encode()),
        "top_logprobs": [_logprob(other) for other in token.top],
    }
