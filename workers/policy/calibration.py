"""Keeping the latency model honest while it runs.

Each regime of the model is multiplied by the median of actual / predicted over its own recent
iterations, so that a model that is wrong by a factor costs nothing once that is seen, and decodes
that run often say nothing about prompts. What remains is spread; the margin is a high quantile of
it.
"""

from dataclasses import replace

from workers.latency.fit import Sample
from workers.latency.model import LatencyModel, Regime
from workers.policy.bias import ENOUGH, Corrected, Ratios
from workers.policy.sharing import Sharing

_FIRST_MARGIN = 1.2
_MIN_MARGIN = 1.02
_MAX_MARGIN = 1.5
"""A stall lasts as long however short the iteration was planned."""
_WINDOW = 256
"""Recent iterations of all regimes that are remembered."""
_REGIME_WINDOW = 64
"""Recent iterations of one regime: few enough to follow a device that slows down."""
_TRIAL_EVERY = 8
"""One iteration in so many is of decodes alone, until there were enough."""
_REGIMES = tuple(Regime)


class Calibration:
    def __init__(self, model: LatencyModel, *, correct: bool = True) -> None:
        """Without `correct`, predictions stay the model's."""
        self.model = model
        """As it was fitted."""
        # Decodes alone are corrected apart, whether or not the model tells them apart.
        self._base = model if model.decode_only else replace(model, decode_only=model.small)
        self._corrected = Corrected(self._base)
        self._correct = correct
        self.sharing = Sharing(self._base)
        self._all = Ratios(_WINDOW)
        self._own = [Ratios(_REGIME_WINDOW) for _ in Regime]
        self._just_large = Ratios(_REGIME_WINDOW)
        """Of batches of at most twice the split."""
        self._mixed = 0
        """Iterations with prompts and decodes since one of decodes alone."""
        self._trials = 0
        self._left = Ratios(_WINDOW)
        """Actual over corrected prediction, of iterations with prompts: these have a limit."""

    @property
    def corrected(self) -> LatencyModel:
        """As recent iterations say: in the seconds of this device, now."""
        return self._corrected.model if self._correct else self.model

    def observe(self, ran: Sample) -> None:
        """Take one measured iteration."""
        predicted_s = self._base.iteration_s(*ran.batch)
        if predicted_s <= 0:
            return
        tokens = ran.prefill_tokens + ran.decodes
        regime = self._base.regime(ran.prefill_tokens, ran.decodes)
        self._mixed = 0 if regime is Regime.DECODES else self._mixed + (ran.decodes > 0)
        ratio = ran.duration_s / predicted_s
        self._all.add(ratio)
        self._own[regime].add(ratio)
        self.sharing.observe(ran)
        if regime is Regime.LARGE and tokens <= 2 * self._base.split_tokens:
            self._just_large.add(ratio)
        if self._correct:
            self._corrected.by([self.bias(each) for each in _REGIMES])
        if regime is not Regime.DECODES:
            self._left.add(ratio / self._corrected.biases[regime])

    def bias(self, regime: Regime) -> float:
        """Actual / predicted of the model, typical of recent iterations.

        A regime of which little was seen is expected to be as wrong as all of them are.
        """
        return self._own[regime].typical(self._all.quantile(0.5))

    def together_and_apart(self) -> tuple[LatencyModel, LatencyModel]:
        """See `Sharing.models`."""
        if not self._correct:
            return self.model, self.model
        return self.sharing.models(self._corrected.biases)

    def takes_turn(self, prompt_tokens: int, decodes: int, decode_context: int) -> None:
        """See `Sharing.took_turn`."""
        together, apart = self.together_and_apart()
        together_s = together.iteration_s(prompt_tokens, 0, decodes, decode_context)
        apart_s = apart.iteration_s(prompt_tokens, 0, 0, 0)
        apart_s += apart.iteration_s(0, 0, decodes, decode_context)
        avoided = self._base.regime(prompt_tokens, decodes)
        self.sharing.took_turn(avoided, together_s, apart_s)

    def margin(self, quantile: float) -> float:
        """Actual over corrected prediction that a share `quantile` of iterations stays below."""
        seen = self._left.quantile(quantile)
        if len(self._left) * (1 - quantile) < 1:  # too few for one that exceeds it
            return max(_FIRST_MARGIN, min(seen, _MAX_MARGIN))
        return max(_MIN_MARGIN, min(seen, _MAX_MARGIN))

    def refitted(self, model: LatencyModel) -> "Calibration":
        """Of a model that was fitted to what this one has seen.

        It is expected to be right, with errors of the same spread: one stall says nothing against
        it. What prompts take beside decodes and by themselves is kept, see `Sharing.refitted`.
        """
        calibration = Calibration(model, correct=self._correct)
        calibration._left = self._left
        calibration.sharing = self.sharing.refitted(calibration._base)
        for _ in range(ENOUGH // 2):
            calibration._all.add(1.0)
        return calibration

    def should_try_decodes_alone(self) -> bool:
        """Under load prompts are in every iteration, so that nobody knows what it saves to leave
        them out. A few times that has to be tried where something hangs on it."""
        unknown = len(self._own[Regime.DECODES]) < ENOUGH and self._trials < 2 * ENOUGH
        return unknown and self._mixed >= _TRIAL_EVERY

    def tries_decodes_alone(self) -> None:
        """A plan does so. Whether it is measured is another matter: other ranks may disturb it."""
        self._mixed = 0
        self._trials += 1

    @property
    def knows_large_batches(self) -> bool:
        """Enough batches just above the split were measured."""
        return len(self._just_large) >= ENOUGH

    def measured_model(self) -> LatencyModel | None:
        """What measured iterations say against large batches and decodes alone in turn.

        These are as slow as three quarters of their iterations did not exceed, and small batches as
        fast as a quarter was: what differs by less may be noise, or a model that fits badly in
        places. None until each of the three was measured often.
        """
        alone, small = self._own[Regime.DECODES], self._own[Regime.SMALL]
        if min(len(alone), len(small), len(self._just_large)) < ENOUGH:
            return None
        slow_alone, fast_small = alone.quantile(0.75), small.quantile(0.25)
        return self._base.corrected(slow_alone, fast_small, self._just_large.quantile(0.75))
