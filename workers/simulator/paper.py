"""Niyama as published (arXiv 2503.22562).

Constants, the margin and the estimate of output lengths are those of the released artifact. Where
its relegation falls short of the paper's text, in the favour of whom it is compared with, the text
counts: a batch request is relegated when its answer, not its prompt, would be late, and requests of
low importance go first.
"""

from workers.latency.model import LatencyModel
from workers.policy.plan import IterationPlan
from workers.policy.request import Prefill
from workers.simulator.baselines import SheddingPolicy

PAPER_CHUNKS = (2552, 2048, 1792, 1536, 1280, 1024, 768, 512, 256, 128)
PAPER_MARGIN = 1.2
PAPER_BATCH_PACE_S = 0.4
PAPER_OUTPUT_TOKENS = 15
PAPER_ANSWER_S = 40.0
"""Time for the answer of a batch request: 400 tokens at the pace above."""
PAPER_SRPF_WEIGHT_S = 0.008


class PaperPolicy(SheddingPolicy):
    """Niyama as published: dynamic chunks, hybrid priority, eager one-way relegation."""

    def __init__(
        self,
        latency: LatencyModel,
        *,
        answer_s: float = PAPER_ANSWER_S,
        use_importance: bool = True,
    ) -> None:
        """As the paper's text has it; the artifact leaves no time for answers, and has no
        importance.
        """
        super().__init__(
            self._hybrid_key, PAPER_CHUNKS[0], answer_s=answer_s, use_importance=use_importance
        )
        self._latency = latency

    def plan(self, now_s: float, free_kv_tokens: int) -> IterationPlan:
        context = max((p.computed_tokens for p in self._state.started.values()), default=0)
        self._chunk_tokens = self._budget(now_s, context) + len(self._state.decodes)
        return super().plan(now_s, free_kv_tokens)

    def use(self, model: LatencyModel) -> None:
        self._latency = model

    def _hybrid_key(self, prefill: Prefill) -> float:
        work = prefill.remaining_tokens
        if not prefill.request.qos.deadline_is_first_token:
            work += PAPER_OUTPUT_TOKENS
        return prefill.request.qos.deadline_s + PAPER_SRPF_WEIGHT_S * work

    def _budget(self, now_s: float, prefill_context: int) -> int:
        decodes = self._state.decodes
        slack_s = decodes.next_due_s() - now_s
        if slack_s <= 0:
            return PAPER_CHUNKS[-1]
        for chunk in PAPER_CHUNKS:
            predicted_s = self._latency.iteration_s(
                chunk, prefill_context, len(decodes), decodes.context_tokens
            )
            if predicted_s * PAPER_MARGIN <= slack_s:
                return chunk
        return PAPER_CHUNKS[-1]

    def _join_decodes(self, prefill: Prefill, end_s: float) -> None:
        request = prefill.request
        if request.qos.limits_gaps:
            pace_s = request.qos.tbt_s
            due_s = request.qos.deadline_s + (prefill.generated_tokens + 1) * pace_s
        else:
            pace_s = PAPER_BATCH_PACE_S
            due_s = end_s + pace_s
        self._state.decodes.add(
            request,
            next_due_s=due_s,
            pace_s=pace_s,
            context_tokens=prefill.computed_tokens,
            generated_tokens=prefill.generated_tokens + 1,
        )
