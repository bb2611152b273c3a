"""The KV memory of a replica: what requests hold, and the prefix cache in what they do not.

The cache holds whole blocks of prompts that this replica has computed. Those that a running request
has or shares are held; the others stay until the room is needed, least recently used first.
"""

from collections import OrderedDict
from collections.abc import Sequence


class _Holding:
    """The KV of one request."""

    __slots__ = ("blocks", "own_tokens", "shared")

    def __init__(self, blocks: Sequence[int]) -> None:
        self.blocks = blocks
        """All blocks of its prompt. One is equal to another's where the whole text up to its end
        is."""
        self.shared = 0
        """How many of them, from the first, it holds in the cache."""
        self.own_tokens = 0
        """The rest of what it holds, without what it has generated."""


class KvMemory:
    def __init__(self, tokens: int, block_tokens: int) -> None:
        self.tokens = tokens
        self.held_tokens = 0
        """Of running requests, what they share counted once; what is cached besides is free."""
        self._block_tokens = block_tokens
        self._holdings: dict[str, _Holding] = {}
        self._holders: dict[int, int] = {}
        """Requests that hold each block."""
        self._unheld: OrderedDict[int, None] = OrderedDict()
        """Cached blocks that no request holds, least recently used first."""

    @property
    def free_tokens(self) -> int:
        return self.tokens - self.held_tokens

    def cached_tokens(self, blocks: Sequence[int]) -> int:
        """Tokens of the longest cached prefix."""
        return self._cached_blocks(blocks) * self._block_tokens

    def start(self, request_id: str, blocks: Sequence[int]) -> int:
        """A request without KV begins: it holds the prefix that is cached; returns its tokens."""
        holding = self._holdings[request_id] = _Holding(blocks)
        for block in blocks[: self._cached_blocks(blocks)]:
            self._hold(block)
            holding.shared += 1
        return holding.shared * self._block_tokens

    def decoded(self, tokens: int) -> None:
        """Requests have generated this many tokens; `release` says which."""
        self.held_tokens += tokens

    def computed(self, request_id: str, tokens: int) -> None:
        """Prompt tokens of the request were computed; whole blocks of it enter the cache.

        Where another has put the same block there meanwhile, this request's own copy is freed.
        """
        holding = self._holdings[request_id]
        holding.own_tokens += tokens
        self.held_tokens += tokens
        while holding.own_tokens >= self._block_tokens and holding.shared < len(holding.blocks):
            holding.own_tokens -= self._block_tokens
            self.held_tokens -= self._block_tokens
            self._hold(holding.blocks[holding.shared])
            holding.shared += 1

    def release(self, request_id: str, decoded_tokens: int = 0) -> None:
        """The request ends or loses its KV; its shared blocks stay while there is room."""
        holding = self._holdings.pop(request_id)
        self.held_tokens -= holding.own_tokens + decoded_tokens
        # Its last block first, so that a prefix outlives what follows it.
        for block in reversed(holding.blocks[: holding.shared]):
            self._holders[block] -= 1
            if not self._holders[block]:
                del self._holders[block]
                self.held_tokens -= self._block_tokens
                self._unheld[block] = None

    def evict(self) -> None:
        """Drop cached blocks until what is held and what is cached fit."""
        excess = self.held_tokens + len(self._unheld) * self._block_tokens - self.tokens
        while excess > 0 and self._unheld:
            self._unheld.popitem(last=False)
            excess -= self._block_tokens

    def _cached_blocks(self, blocks: Sequence[int]) -> int:
        count = 0
        for block in blocks:
            if block not in self._holders and block not in self._unheld:
                break
            count += 1
        return count

    def _hold(self, block: int) -> None:
        if block not in self._holders:
            self._holders[block] = 0
            self._unheld.pop(block, None)
            self.held_tokens += self._block_tokens
        self._holders[block] += 1
