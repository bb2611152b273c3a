"""What prompts take beside decodes, and by themselves.

The error of a latency model need not be the same in both. Where prompts and decodes take turns,
only the latter is measured: taken for the error of both, it could make turns look faster than
they are for as long as they go on.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from copy import copy

from workers.latency.fit import Sample
from workers.latency.model import LatencyModel, Regime
from workers.policy.bias import ENOUGH, Corrected, Ratios

_PROBE_EVERY = 8
"""One turn of the prompts in so many is shared with the decodes, until there were enough;"""
_PROBE_LATER_EVERY = 128
"""and then, as what was measured may no longer be true. Also where it may make tokens late."""
_PROBES_SHARE = 0.04
"""Of the time of turns that is lost at most by sharing some, as is believed: beside prompts decodes
may take fifty times as long."""


class _Newest:
    """The newest iterations of one kind, and what they took over what a model says."""

    def __init__(self, base: LatencyModel, ran: Iterable[Sample] = ()) -> None:
        self._base = base
        self._ran = {regime: deque[Sample](maxlen=ENOUGH) for regime in Regime}
        self.ratios = {regime: Ratios(ENOUGH) for regime in Regime}
        for sample in ran:
            self.add(sample)

    def add(self, ran: Sample) -> None:
        """Ignored where the model says that it takes no time."""
        predicted_s = self._base.iteration_s(*ran.batch)
        if predicted_s > 0:
            regime = self._base.regime(ran.prefill_tokens, ran.decodes)
            self._ran[regime].append(ran)
            self.ratios[regime].add(ran.duration_s / predicted_s)

    def refitted(self, base: LatencyModel) -> "_Newest":
        """The same iterations beside another model."""
        return _Newest(base, (ran for each in self._ran.values() for ran in each))


class Sharing:
    """Of one latency model."""

    def __init__(self, base: LatencyModel) -> None:
        self._together, self._apart = Corrected(base), Corrected(base)
        self._shared = _Newest(base)
        """Iterations of prompts and decodes."""
        self._unshared = _Newest(base)
        """Of prompts alone."""
        self._turns = 0
        """Taken because that is believed to be faster, since the last shared iteration."""
        self._turns_s = 0.0
        """What they took, as was believed."""
        self._saved_s = 0.0
        """What the last of them saved, as was believed."""
        self._avoided = Regime.SMALL
        """What the last of them would have been."""
        self._probes = dict.fromkeys(Regime, 0)

    def refitted(self, base: LatencyModel) -> "Sharing":
        """Of a model that was fitted to what this one has seen.

        Its form need not be able to tell shared iterations from others: what is known of them
        counts for it, too, and they are tried no sooner.
        """
        other = copy(self)
        other._together, other._apart = Corrected(base), Corrected(base)
        other._shared = self._shared.refitted(base)
        other._unshared = self._unshared.refitted(base)
        other._probes = self._probes.copy()
        return other

    def observe(self, ran: Sample) -> None:
        """An iteration was measured."""
        if not ran.prefill_tokens:
            return
        if ran.decodes:
            self._begin()
        (self._shared if ran.decodes else self._unshared).add(ran)

    def models(self, biases: Sequence[float]) -> tuple[LatencyModel, LatencyModel]:
        """Of prompts and decodes together, and of either alone; `biases` are those of all.

        Where few ran, the bias of their regime counts.
        """
        together, apart = (
            [
                of_prompts[regime].typical(bias) if regime is not Regime.DECODES else bias
                for regime, bias in zip(Regime, biases, strict=True)
            ]
            for of_prompts in (self._shared.ratios, self._unshared.ratios)
        )
        return self._together.by(together), self._apart.by(apart)

    def should_probe(self, *, in_time: bool) -> bool:
        """Whether prompts should share an iteration with decodes although turns look faster.

        Where that would make tokens late, as is believed (not `in_time`), only rarely. And the
        longer it would take, the more rarely.
        """
        known = len(self._shared.ratios[self._avoided]) >= ENOUGH
        known |= self._probes[self._avoided] >= 2 * ENOUGH
        if self._turns < (_PROBE_EVERY if in_time and not known else _PROBE_LATER_EVERY):
            return False
        return self._saved_s <= _PROBES_SHARE * self._turns_s

    def took_turn(self, avoided: Regime, together_s: float, apart_s: float) -> None:
        """A plan leaves the decodes out, as turns look faster than such a shared iteration."""
        self._turns += 1
        self._turns_s += apart_s
        self._saved_s = together_s - apart_s
        self._avoided = avoided

    def probed(self) -> None:
        """A plan shares an iteration for that reason, whether it will be measured or not."""
        self._begin()
        self._probes[self._avoided] += 1

    def _begin(self) -> None:
        self._turns, self._turns_s = 0, 0.0
