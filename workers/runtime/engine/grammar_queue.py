"""In which order the schemas of requests are checked: new ones do not wait for costly ones.

Only a try shows what a schema costs. So each has a short one first, and those that turn out to be
costly wait for a thread of their own.
"""

from collections.abc import Callable

from workers.engine.port import GenerationRequest
from workers.runtime.engine.grammar_check import GrammarCheck
from workers.runtime.engine.preparations import Preparations

_FIRST_TRIES = 2
"""Threads, of which one is for interactive requests alone."""


class GrammarQueue:
    """Call everything from the event loop."""

    def __init__(self, grammars: GrammarCheck, clock: Callable[[], float]) -> None:
        """`clock` gives UTC epoch seconds."""
        self._grammars = grammars
        self._first_tries = Preparations(
            lambda request: grammars.try_first(request.sampling["response_format"]),
            threads=_FIRST_TRIES,
            name="grammars",
            clock=clock,
        )
        self._costly = Preparations(
            lambda request: grammars.check(request.sampling["response_format"]),
            threads=1,
            name="costly-grammars",
            clock=clock,
        )

    async def check(self, request: GenerationRequest) -> None:
        """Raises what `GrammarCheck.check` and `Preparations.prepare` raise."""
        if not self._grammars.concerns(request.sampling.get("response_format")):
            return
        if not await self._first_tries.prepare(request):
            await self._costly.prepare(request)

    def abort(self, request_id: str) -> bool:
        """As `Preparations.abort`."""
        return self._first_tries.abort(request_id) or self._costly.abort(request_id)

    def close(self) -> None:
        """As `Preparations.close`."""
        self._first_tries.close()
        self._costly.close()
