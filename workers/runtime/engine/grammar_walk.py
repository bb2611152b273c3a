"""What a compiled grammar costs for each token: SGLang's scheduler asks it before every iteration.

A schema in which everything may be everything else compiles in seconds, and then takes seconds for
each token, while all other requests wait.
"""

import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from xgrammar import CompiledGrammar, GrammarMatcher, TokenizerInfo, allocate_token_bitmask

STEPS = 32
_SEPARATORS = (b'"', b",", b":")


class GrammarWalk:
    """Generates as a model might that opens brackets wherever it may.

    Nesting is what multiplies the ways in which a text can be understood. It is a sample: what is
    slow only elsewhere is not found.
    """

    def __init__(self, info: TokenizerInfo) -> None:
        vocabulary = info.decoded_vocab
        self._vocab_size = info.vocab_size
        self._bitmask = allocate_token_bitmask(1, info.vocab_size)
        self._preferred = (
            self._marked(_depth(token) > 0 for token in vocabulary),
            self._marked(token[:1] in _SEPARATORS for token in vocabulary),
        )

    def slowest_token_s(self, grammar: CompiledGrammar, limit_s: float) -> float:
        """The CPU seconds of the costliest of STEPS tokens, or of the first that takes more than
        `limit_s`."""
        matcher, random = GrammarMatcher(grammar), np.random.default_rng(0)
        slowest_s = 0.0
        for _ in range(STEPS):
            start_s = time.thread_time()
            matcher.fill_next_token_bitmask(self._bitmask)
            slowest_s = max(slowest_s, time.thread_time() - start_s)
            if slowest_s > limit_s:
                break
            candidates = self._candidates()
            if not candidates.size or not matcher.accept_token(int(random.choice(candidates))):
                break
            if matcher.is_terminated():
                break
        return slowest_s

    def _candidates(self) -> NDArray[np.intp]:
        """The most interesting tokens among those that the grammar allows."""
        bits = np.unpackbits(self._bitmask.numpy().view(np.uint8), bitorder="little")
        allowed = bits[: self._vocab_size].astype(bool)
        for preferred in self._preferred:
            if (both := allowed & preferred).any():
                return both.nonzero()[0]
        return allowed.nonzero()[0]

    def _marked(self, marks: Iterable[bool]) -> NDArray[np.bool_]:
        """Of every token, those without text included."""
        found = np.fromiter(marks, dtype=bool)
        return np.pad(found, (0, self._vocab_size - len(found)))


def _depth(token: bytes) -> int:
    """How many brackets are open after it."""
    return sum(map(token.count, (b"[", b"{"))) - sum(map(token.count, (b"]", b"}")))
