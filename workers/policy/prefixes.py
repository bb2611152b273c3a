"""Prefixes that several prompts begin with: each is computed once, and counted once.

A prefix is known by the keys of `Request.prefix_keys`. Of those that wait for one that is not in
the prefix cache, one has it among its work; for the others it is work done elsewhere. Whoever
starts computes it, and the others are better off waiting until it is there.

What the cache holds is the engine's to know. Here a prefix counts as cached once it was computed or
found, until somebody who should have found it did not.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from operator import itemgetter

from workers.policy.request import Prefill


def key_positions(tokens: int, block_tokens: int) -> Iterator[int]:
    """Where a prompt of so many tokens has keys: after each of the first 8 blocks of
    `block_tokens`, then 4 times as the length doubles. Its last token always has to be computed.
    """
    at = step = block_tokens
    while at < tokens:
        yield at
        if at >= 8 * step:
            step *= 2
        at += step


class _Prefix:
    __slots__ = ("is_cached", "is_computing", "owner", "waiting")

    def __init__(self) -> None:
        self.waiting: OrderedDict[str, None] = OrderedDict()
        """Prompts that begin with it and have no KV, the oldest first. (A dict would look for its
        first entry among those that were taken out.)"""
        self.is_cached = False
        self.owner: str | None = None
        """Whose work it is; nobody's when it is cached."""
        self.is_computing = False
        """Its owner has started."""


class Prefixes:
    """Has only prefixes of prompts that wait or are being computed."""

    def __init__(self, on_change: Callable[[str], None]) -> None:
        """`on_change` is told the waiting prompts that have more or less to do than before."""
        self._on_change = on_change
        self._prefixes: dict[int, _Prefix] = {}
        self._warm: OrderedDict[int, None] = OrderedDict()
        """Cached ones that somebody waits for, the most recently used last."""
        self._landing: list[Prefill] = []
        """Complete prompts that the engine has not put into its cache yet."""

    def __len__(self) -> int:
        return len(self._prefixes)

    # ---- what happens to a prompt

    def wait(self, prefill: Prefill) -> None:
        """A prompt without KV waits, or what it has to do has changed."""
        name = prefill.request_id
        for tokens, key in prefill.request.prefix_keys:
            prefix = self._prefixes.setdefault(key, _Prefix())
            prefix.waiting[name] = None
            if prefix.owner == name:
                prefix.is_computing = False
            if prefix.is_cached or (prefix.owner is None and tokens <= prefill.context_tokens):
                self._found(key, prefix)
            elif prefix.owner is None:
                prefix.owner = name
        self._count(prefill)

    def matched(self, prefill: Prefill) -> None:
        """The engine has looked up a waiting prompt, and found `context_tokens` in its cache."""
        for tokens, key in prefill.request.prefix_keys:
            prefix = self._prefixes.get(key)
            if prefix is not None and not prefix.is_cached and tokens <= prefill.context_tokens:
                self._found(key, prefix)

    def start(self, prefill: Prefill) -> None:
        """A prompt that waited is computed from now on, with what others have counted."""
        name, used = prefill.request_id, None
        prefill.elsewhere_tokens = 0
        for _, key in prefill.request.prefix_keys:
            if (prefix := self._prefixes.get(key)) is None:
                continue
            prefix.waiting.pop(name, None)
            if not prefix.waiting:
                self._warm.pop(key, None)
            elif prefix.is_cached:
                used = key
            if not prefix.is_cached and not prefix.is_computing:
                self._hand_to(prefix, name)
                prefix.is_computing = True
        if used is not None:
            self._warm.move_to_end(used)

    def advanced(self, prefill: Prefill) -> None:
        """A chunk of a prompt was computed."""
        for tokens, key in prefill.request.prefix_keys:
            prefix = self._prefixes.get(key)
            if tokens > prefill.computed_tokens:
                break
            if prefix is not None and not prefix.is_cached:
                self._found(key, prefix)

    def completed(self, prefill: Prefill, *, cached: bool) -> None:
        """A prompt is complete; if not `cached` yet, it is with the next call of `land`."""
        if not cached:
            self._landing.append(prefill)
            return
        for key, prefix in list(self._of(prefill)):
            if not prefix.is_cached:
                self._found(key, prefix)
            if not prefix.waiting:
                del self._prefixes[key]
                self._warm.pop(key, None)

    def land(self) -> None:
        """What was computed before the last iteration is in the prefix cache by now."""
        landing, self._landing = self._landing, []
        for prefill in landing:
            self.completed(prefill, cached=True)

    def found(self, prefill: Prefill, held_tokens: int) -> None:
        """The engine found so much of a prompt in its cache; what it did not find is not there."""
        for tokens, key in prefill.request.prefix_keys:
            prefix = self._prefixes.get(key)
            if prefix is not None and prefix.is_cached and tokens > held_tokens:
                prefix.is_cached, prefix.is_computing = False, True
                prefix.owner = prefill.request_id
                self._warm.pop(key, None)

    def leave(self, prefill: Prefill) -> None:
        """A prompt is gone, or can wait for nobody: what it had to do is another's."""
        name = prefill.request_id
        prefill.elsewhere_tokens = 0
        for key, prefix in list(self._of(prefill)):
            prefix.waiting.pop(name, None)
            if prefix.owner == name:
                prefix.is_computing = False
                self._hand_to(prefix, next(iter(prefix.waiting), None))
            if not prefix.waiting and not prefix.is_computing:
                del self._prefixes[key]
                self._warm.pop(key, None)
            elif not prefix.waiting:
                self._warm.pop(key, None)

    # ---- who should go, and who should wait

    def refresh(self, prefill: Prefill) -> None:
        """Take into account what has been computed, or was not found, since it was looked at."""
        cached, context, gone = 0, prefill.context_tokens, False
        for tokens, key in reversed(prefill.request.prefix_keys):
            if (prefix := self._prefixes.get(key)) is not None:
                if prefix.is_cached:
                    cached = tokens
                    break
                gone = gone or tokens <= context
        if cached > context or gone:
            own_tokens = prefill.own_tokens
            prefill.found_cached(cached)
            self._count(prefill)
            if prefill.own_tokens != own_tokens:
                self._on_change(prefill.request_id)

    def computing(self, prefill: Prefill) -> str | None:
        """The prompt that computes, or has just computed, what this one would have to."""
        keys = prefill.request.prefix_keys
        at = bisect_right(keys, prefill.context_tokens, key=itemgetter(0))
        prefix = self._prefixes.get(keys[at].key) if at < len(keys) else None
        return prefix.owner if prefix is not None and prefix.is_computing else None

    def next_warm(self) -> str | None:
        """A waiting prompt that begins with what was computed or found last, if there is one."""
        key = next(reversed(self._warm), None)
        return next(iter(self._prefixes[key].waiting)) if key is not None else None

    # ---- details

    def _of(self, prefill: Prefill) -> Iterator[tuple[int, _Prefix]]:
        for _, key in prefill.request.prefix_keys:
            if (prefix := self._prefixes.get(key)) is not None:
                yield key, prefix

    def _count(self, prefill: Prefill) -> None:
        """Say how much of a waiting prompt is others' work, or done already."""
        name = prefill.request_id
        others = self._deepest(prefill, lambda prefix: prefix.owner != name)
        prefill.elsewhere_tokens = max(0, others - prefill.context_tokens)

    def _deepest(self, prefill: Prefill, wanted: Callable[[_Prefix], bool]) -> int:
        """Tokens of the longest prefix of a prompt that is like that; 0: there is none."""
        for tokens, key in reversed(prefill.request.prefix_keys):
            prefix = self._prefixes.get(key)
            if prefix is not None and wanted(prefix):
                return tokens
        return 0

    def _found(self, key: int, prefix: _Prefix) -> None:
        """A prefix is in the cache."""
        self._hand_to(prefix, None)
        prefix.is_cached, prefix.is_computing = True, False
        self._used(key, prefix)

    def _used(self, key: int, prefix: _Prefix) -> None:
        if prefix.waiting:
            self._warm[key] = None
            self._warm.move_to_end(key)
        else:
            self._warm.pop(key, None)

    def _hand_to(self, prefix: _Prefix, owner: str | None) -> None:
        before, prefix.owner = prefix.owner, owner
        for name in (before, owner):
            if name is not None and name in prefix.waiting and before != owner:
                self._on_change(name)
