"""Requests as SGLang's scheduler has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workers.engine.port import PrefillChunks
from workers.policy.account import EngineTimes
from workers.runtime.scheduler.progress import Progress
from workers.runtime.scheduler.seams import EngineRequest


@dataclass
class FakeSamplingParams:
    custom_params: Mapping[str, Any] | None
    max_new_tokens: int | None


@dataclass(eq=False)
class FakeRequest:
    rid: str
    origin_input_ids: list[int]
    sampling_params: FakeSamplingParams
    niyama: Progress = field(init=False)
    output_ids: list[int] = field(default_factory=list)
    prefix_len: int = 0
    extend_len: int = 0
    inflight_middle_chunks: int = 0
    customized_info: dict[str, list[Any]] | None = None
    session: object | None = None
    beam_group: object | None = None
    input_embeds: object | None = None
    positional_embed_overrides: object | None = None
    skip_radix_cache_insert: bool = False
    extra_key: str | None = None
    """Its own id: it shares nothing with others."""
    cache_salt: str | None = None
    return_logprob: bool = False
    logprob_start_len: int = -1
    sent_info: list[dict[str, list[Any]] | None] = field(default_factory=list)
    """`customized_info` that went out with each token."""
    abort_reason: str | None = None
    """Set: it ends, with this reason, when its next result is processed."""
    ended: bool = False
    times: EngineTimes | None = None
    """Where its time went, with its last output."""
    prefill: PrefillChunks | None = None
    """The chunks of its prompt, likewise."""

    @property
    def seqlen(self) -> int:
        return len(self.origin_input_ids) + len(self.output_ids)

    def finished(self) -> bool:
        return self.ended

    def reset_for_retract(self) -> None:
        self.prefix_len = self.extend_len = self.inflight_middle_chunks = 0

    def set_finish_with_abort(self, error_msg: str) -> None:
        self.abort_reason, self.origin_input_ids = error_msg, [0]

    def stash(self) -> None:
        """The last chunk counts as computed."""
        self.prefix_len, self.extend_len = self.prefix_len + self.extend_len, 0


def request(rid: str, prompt_tokens: int, max_new_tokens: int = 4, **qos: Any) -> FakeRequest:
    """`qos` as in `custom_params`."""
    params = FakeSamplingParams({"qos": qos}, max_new_tokens)
    return FakeRequest(rid, [0] * prompt_tokens, params, extra_key=rid)


def about(document: str, req: FakeRequest) -> FakeRequest:
    """The same request: it begins like all others about this document."""
    return replace(req, extra_key=document)


def fake(req: EngineRequest) -> FakeRequest:
    """The request, which here is always a fake."""
    assert isinstance(req, FakeRequest)
    return req
