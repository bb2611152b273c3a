"""Speculative decoding on the CPU platform: SGLang's `NGRAM`, with plain torch for its kernels.

SGLang's own n-gram worker imports CUDA kernels. This one speaks to SGLang's scheduler in the same
way, so that everything around it is real: how much KV is allocated, verified and kept, how many
tokens a request has of a step, and what the scheduler makes of them.
"""

from typing import Any

import torch
from sglang.srt.layers.logprob_processor import compute_spec_logprobs
from sglang.srt.managers.utils import GenerationBatchResult
from sglang.srt.mem_cache import allocation
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool
from sglang.srt.model_executor.forward_batch_info import ForwardBatch, ForwardMode
from sglang.srt.runtime_context import get_spec
from sglang.srt.speculative.base_spec_worker import BaseSpecWorker
from sglang.srt.speculative.ngram_info import NgramVerifyInput

_LONGEST_MATCH = 4
"""Tokens at the end of a request that are looked up in what came before them."""
_LOOK_BACK_TOKENS = 2_048


class ChainKvPool(MHATokenToKVPool):  # type: ignore[misc]
    """KV of drafts without branches: what is accepted of them is where it belongs already."""

    def _init_kv_copy_and_warmup(self) -> None:
        """SGLang prepares a Triton kernel here that moves accepted branches."""
        self._kv_copy_config = None


class NgramCpuWorker(BaseSpecWorker):  # type: ignore[misc]
    """Drafts are one chain per request, looked up in its own tokens.

    Sampling and log probabilities are SGLang's own, one position of the drafts after the other.
    Where a grammar is involved, no draft of that request is accepted.
    """

    def __init__(self, target_worker: Any, **_: Any) -> None:
        super().__init__()
        self._target_worker = target_worker
        self._model = target_worker.model_runner
        self._tokens: int = get_spec().speculative_num_draft_tokens
        """That are verified of each request: its last one, and the draft."""
        allocation.assign_req_to_token_pool_func = _assign_slots

    @property
    def draft_worker(self) -> None:
        """There is no draft model."""
        return None

    def forward_batch_generation(self, batch: Any, **_: Any) -> GenerationBatchResult:
        if not batch.forward_mode.is_decode():
            return self._prefill(batch)
        drafts = torch.tensor([self._draft(req) for req in batch.reqs])
        output = self._verify(batch, drafts)
        tokens = self._sample(batch, output)
        if batch.return_logprob:
            compute_spec_logprobs(batch, output, tokens.flatten(), chain_stride=self._tokens)
        right = (drafts[:, 1:] == tokens[:, :-1]).long().cumprod(dim=1).sum(dim=1)
        free = torch.tensor([req.grammar is None for req in batch.reqs])
        lengths = (1 + right * free).to(torch.int32)
        return self._result(output, tokens.flatten(), lengths, batch.seq_lens + lengths)

    def _prefill(self, batch: Any) -> GenerationBatchResult:
        result = self._target_worker.forward_batch_generation(batch)
        lengths = torch.ones(len(batch.reqs), dtype=torch.int32)
        tokens, seq_lens = result.next_token_ids, batch.seq_lens.clone()
        return self._result(result.logits_output, tokens, lengths, seq_lens)

    def _result(
        self, output: Any, tokens: torch.Tensor, lengths: torch.Tensor, seq_lens: torch.Tensor
    ) -> GenerationBatchResult:
        """`tokens` are as many of each request as are verified, of which the first `lengths` count;
        after a prefill, one of each.
        """
        kept = torch.zeros(len(lengths) * self._tokens, dtype=torch.int32)
        return GenerationBatchResult(
            logits_output=output,
            next_token_ids=tokens,
            accept_lens=lengths,
            new_seq_lens=seq_lens,
            next_draft_input=NgramVerifyInput(
                draft_token_num=self._tokens,
                new_seq_lens=seq_lens,
                accept_tokens=kept,
                accept_lens=lengths,
            ),
            speculative_num_draft_tokens=self._tokens,
        )

    def _draft(self, req: Any) -> list[int]:
        """The last token of a request, and what followed the last time that it ended like this."""
        ids = [*req.origin_input_ids[-_LOOK_BACK_TOKENS:], *req.output_ids][-_LOOK_BACK_TOKENS:]
        return [ids[-1], *continuation(ids, self._tokens - 1)]

    def _verify(self, batch: Any, drafts: torch.Tensor) -> Any:
        """The logits after each token of the drafts, which get the KV slots that are reserved."""
        starts, count = batch.seq_lens, self._tokens
        positions = starts[:, None] + torch.arange(count)
        batch.forward_mode = ForwardMode.TARGET_VERIFY
        batch.input_ids = drafts.flatten()
        slots = batch.req_to_token_pool.req_to_token
        batch.out_cache_loc = slots[batch.req_pool_indices[:, None], positions].flatten().long()
        batch.spec_info = NgramVerifyInput(
            positions=positions.flatten(), draft_token_num=count, new_seq_lens=starts
        )
        forward = ForwardBatch.init_new(batch, self._model, return_hidden_states_before_norm=False)
        # What attention in plain torch reads of a prompt's chunk: drafts are one, without branches.
        forward.extend_prefix_lens = starts
        forward.extend_seq_lens = torch.full_like(starts, count)
        forward.seq_lens = starts + count
        return self._model.forward(forward).logits_output

    def _sample(self, batch: Any, output: Any) -> torch.Tensor:
        """The model's own token after each token of the drafts, by request and position."""
        logits = output.next_token_logits.view(len(batch.reqs), self._tokens, -1)
        tokens = []
        for at in range(self._tokens):
            output.next_token_logits = logits[:, at].clone()
            info = batch.sampling_info
            self._model._preprocess_logits(output, info)
            sampled = self._model.sampler(output, info, False, None, None, batch.seq_lens + at)
            tokens.append(sampled)
        output.next_token_logits = logits.flatten(0, 1)
        return torch.stack(tokens, dim=1).to(torch.int64)


def continuation(ids: list[int], count: int) -> list[int]:
    """`count` tokens that may follow `ids`, by where its end occurred before; else its last one."""
    for length in range(min(_LONGEST_MATCH, len(ids) - 1), 0, -1):
        end = ids[-length:]
        for at in range(len(ids) - length - 1, -1, -1):
            if ids[at : at + length] == end:
                found = ids[at + length : at + length + count]
                return found + ids[-1:] * (count - len(found))
    return ids[-1:] * count


def _assign_slots(
    rows: torch.Tensor,
    slots: torch.Tensor,
    starts: torch.Tensor,
    ends: torch.Tensor,
    new: torch.Tensor,
    _count: int,
) -> None:
    """In place of a Triton kernel: each request's new KV slots, one request after the other."""
    at = 0
    for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
        slots[row, start:end] = new[at : at + end - start].to(slots.dtype)
        at += end - start
