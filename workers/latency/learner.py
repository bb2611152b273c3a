"""The latency model of this engine on this device, fitted to its own iterations.

A few samples are kept of every kind of iteration, the newest ones, so that hours of small decodes
do not wash out what was learned about large prompts.
"""

from collections import deque
from collections.abc import Iterable

from workers.latency.fit import FitError, Sample, fit
from workers.latency.model import Coefficients, LatencyModel

_GUESS = Coefficients(
    intercept_s=0.01,
    total_token_s=0.0,
    prefill_token_s=1e-4,
    decode_token_s=1e-4,
    decode_context_token_s=1e-7,
    prefill_context_token_s=1e-6,
)
FIRST_GUESS = LatencyModel(_GUESS, _GUESS, split_tokens=512)
"""Until there is anything better. The policy scales it to what iterations really take."""

_SAMPLES_PER_KIND = 4
_FIRST_FIT = 32
_MAX_PAUSE = 4096
_MIN_PREFILL_SIZES = 3


class LatencyLearner:
    """Collects samples and says when they make a new model: often at first, then rarely."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._kinds: dict[tuple[int, ...], deque[Sample]] = {}
        for sample in samples:
            self._keep(sample)
        self._count = 0
        self._next_fit = _FIRST_FIT

    @property
    def samples(self) -> list[Sample]:
        return [sample for kind in self._kinds.values() for sample in kind]

    def model(self) -> LatencyModel | None:
        """A fit to what was collected; None while that is too little, or all of one size."""
        samples = self.samples
        if len({s.prefill_tokens.bit_length() for s in samples}) < _MIN_PREFILL_SIZES:
            return None
        try:
            return fit(samples)
        except FitError:
            return None

    def add(self, sample: Sample) -> LatencyModel | None:
        """Take one measured iteration; a new model when it is time for one."""
        if sample.duration_s <= 0:
            return None
        self._keep(sample)
        self._count += 1
        if self._count < self._next_fit:
            return None
        self._next_fit = self._count + min(self._count, _MAX_PAUSE)
        return self.model()

    def _keep(self, sample: Sample) -> None:
        kind = tuple(n.bit_length() for n in sample[:3])
        self._kinds.setdefault(kind, deque(maxlen=_SAMPLES_PER_KIND)).append(sample)
