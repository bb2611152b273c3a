"""Keys of the prefixes that a request may share with others, for the policy."""

from array import array

from workers.policy.prefixes import key_positions
from workers.policy.request import PrefixKey
from workers.runtime.scheduler.seams import EngineRequest

_BLOCK_TOKENS = 64
"""The shortest prefix that is worth waiting for."""


def prefix_keys(req: EngineRequest) -> tuple[PrefixKey, ...]:
    """Equal keys, equal text, and SGLang's cache would find it: by the hashes of this process.

    A request whose computation no other could use has none, and one that wants log probabilities of
    its prompt none of what it wants them of: SGLang looks up neither.
    """
    alone = (req.session, req.input_embeds, req.positional_embed_overrides)
    if req.skip_radix_cache_insert or any(each is not None for each in alone):
        return ()
    length = len(req.origin_input_ids)
    if req.return_logprob and req.logprob_start_len >= 0:
        length = min(length, req.logprob_start_len + 1)
    keys, start = [], 0
    key = hash((req.extra_key, req.cache_salt))
    for end in key_positions(length, _BLOCK_TOKENS):
        tokens = array("q", req.origin_input_ids[start:end])
        key = hash((key, tokens.tobytes()))
        keys.append(PrefixKey(end, key))
        start = end
    return tuple(keys)
