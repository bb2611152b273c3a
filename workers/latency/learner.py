"""The latency model of this engine on this device, fitted to its own iterations.

A few samples are kept of every kind of iteration, the newest ones, so that hours of small decodes
do not wash out what was learned about large prompts.
"""

import math
from collections import deque
from collections.abc import Iterable

from workers.latency.fit import A100_GUESS, FitError, Sample, Slices, fit, fitting
from workers.latency.model import LatencyModel

FIRST_GUESS = LatencyModel(A100_GUESS, A100_GUESS, split_tokens=512)
"""Until there is anything better. The policy scales it to what iterations really take."""

_SAMPLES_PER_KIND = 4
_MAX_KINDS = 256
"""The ones that ran last; a fit takes time in proportion."""
_FIRST_FIT = 32
_MAX_PAUSE = 4096
_MIN_PREFILL_SIZES = 3
_SLICES = 6
"""Of a fit, after each iteration: a fit takes as long as a short iteration or two."""


class LatencyLearner:
    """Collects samples and says when they make a new model: often at first, then rarely."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._kinds: dict[tuple[int, ...], deque[Sample]] = {}
        for sample in samples:
            self._keep(sample)
        self._count = 0
        self._next_fit = _FIRST_FIT
        self._fitting: Slices[LatencyModel] | None = None
        """A fit that has begun."""

    @property
    def samples(self) -> list[Sample]:
        return [sample for kind in self._kinds.values() for sample in kind]

    def model(self) -> LatencyModel | None:
        """A fit to what was collected; None while that is too little, or all of one size."""
        samples = self.samples
        try:
            return fit(samples) if _differ(samples) else None
        except FitError:
            return None

    def add(self, sample: Sample) -> LatencyModel | None:
        """Take one measured iteration; a new model when one is ready.

        It is made in slices, while more iterations come.
        """
        if self._keep(sample):
            self._count += 1
        if self._count >= self._next_fit and self._fitting is None:
            self._next_fit = self._count + min(self._count, _MAX_PAUSE)
            samples = self.samples
            self._fitting = fitting(samples) if _differ(samples) else None
        return self._fit_on()

    def _fit_on(self) -> LatencyModel | None:
        if self._fitting is None:
            return None
        try:
            for _ in range(_SLICES):
                next(self._fitting)
        except StopIteration as done:
            self._fitting = None
            model: LatencyModel | None = done.value  # None where an earlier slice failed
            return model
        except FitError:
            self._fitting = None
        return None

    def _keep(self, sample: Sample) -> bool:
        """Whether it can be learned from: not one without a duration, as of an idle iteration."""
        if not 0 < sample.duration_s < math.inf or min(sample[:4]) < 0:
            return False
        # Contexts in steps of four, so that there are not more kinds than are kept.
        kind = (
            sample.prefill_tokens.bit_length(),
            sample.prefill_context.bit_length() // 2,
            sample.decodes.bit_length(),
            sample.decode_context.bit_length() // 2,
        )
        self._kinds[kind] = samples = self._kinds.pop(kind, deque(maxlen=_SAMPLES_PER_KIND))
        samples.append(sample)
        if len(self._kinds) > _MAX_KINDS:
            del self._kinds[next(iter(self._kinds))]
        return True


def _differ(samples: Iterable[Sample]) -> bool:
    """Whether there are prompts of enough sizes to tell what others take."""
    return len({s.prefill_tokens.bit_length() for s in samples}) >= _MIN_PREFILL_SIZES
