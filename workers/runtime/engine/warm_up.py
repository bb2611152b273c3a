"""The requests that a fresh engine runs before it serves."""

from collections.abc import Iterator

from workers.engine.port import GenerationRequest
from workers.policy.qos import RequestQos

_ROUNDS = 2
_MIN_PROMPT_TOKENS = 16
_LONG_CHUNKS = 4
_TOGETHER = 8
_TOGETHER_PROMPT_TOKENS = 64
_TOGETHER_OUTPUT_TOKENS = 16
_TOKEN_IDS = 256  # every vocabulary has that many


def _request(name: str, prompt: list[int], max_tokens: int) -> GenerationRequest:
    return GenerationRequest(
        request_id=f"niyama-warm-up-{name}",
        qos=RequestQos.batch(0.0, ttlt_s=0.0),
        input_ids=prompt,
        sampling={"max_tokens": max_tokens, "ignore_eos": True},
    )


FIRST_TOKEN = _request("first", [0], 1)


def profile(chunk_tokens: int, context_tokens: int) -> Iterator[list[GenerationRequest]]:
    """Requests to be run together, list after list, that make iterations of many kinds.

    Prompts of doubling length up to one and a half chunks, each alone; then several together,
    so that they decode beside each other. At the end one of several chunks: what comes before a
    chunk costs, too.
    """
    longest = min(chunk_tokens * 3 // 2, context_tokens // 2)
    seed = 0
    for _ in range(_ROUNDS):
        size = _MIN_PROMPT_TOKENS
        while size < 2 * longest:
            seed += 1
            yield [_request(str(seed), _prompt(seed, min(size, longest)), 2)]
            size *= 2
        together = range(seed + 1, seed + 1 + _TOGETHER)
        yield [
            _request(str(i), _prompt(i, _TOGETHER_PROMPT_TOKENS), _TOGETHER_OUTPUT_TOKENS)
            for i in together
        ]
        seed = together[-1]
    yield [
        _request(
            "long", _prompt(seed + 1, min(_LONG_CHUNKS * chunk_tokens, context_tokens // 2)), 2
        )
    ]


def _prompt(seed: int, tokens: int) -> list[int]:
    """Shares no prefix with the prompt of another seed."""
    return [seed % _TOKEN_IDS, *((seed + i * 31) % _TOKEN_IDS for i in range(tokens - 1))]
