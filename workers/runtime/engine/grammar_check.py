"""Whether a JSON schema compiles to a grammar, in bounded time and memory.

SGLang compiles grammars in threads of its scheduler process. They cannot be stopped: 300 properties
of which 16 to 32 are required keep one busy for half a minute, a few hundred bytes more for hours
and gigabytes. What a schema costs cannot be told from how it looks, so each is compiled first in a
process that can be killed: an ordinary one takes some milliseconds there, and is remembered.
"""

import contextlib
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from xgrammar import TokenizerInfo

from workers.engine.port import EngineDead, EngineError, InvalidRequest
from workers.engine.watchdog import Watchdog
from workers.runtime.engine.grammar_process import GrammarProcess, NoVerdictError

log = logging.getLogger(__name__)

_TRIES = 3
"""Processes that may be killed, by whatever else goes on, before a schema is given up."""
_REMEMBERED = 10_000
_UNKNOWN = ""


class GrammarCheck:
    """Compiles schemas ahead of SGLang, each once. May be called from several threads."""

    def __init__(
        self,
        tokenizer: Any,
        vocabulary_tokens: int,
        stop_tokens: set[int],
        watchdog: Watchdog,
    ) -> None:
        self._tokenizer = tokenizer
        self._vocabulary_tokens = vocabulary_tokens
        self._stop_tokens = sorted(stop_tokens)
        self._watchdog = watchdog
        self._verdicts: OrderedDict[bytes, str | None] = OrderedDict()
        """By the schema's hash: why it is refused, None when it is not."""
        self._idle: list[GrammarProcess] = []
        self._processes: set[GrammarProcess] = set()
        """All, so that they can be killed."""
        self._closed = False

    def concerns(self, response_format: Mapping[str, Any] | None) -> bool:
        """Whether there is something to check: a schema that is not known to be good."""
        form = (response_format or {}).get("json_schema")
        if form is None:
            return False
        return self._verdicts.get(_key(json.dumps(form["schema"])), _UNKNOWN) is not None

    def check(self, response_format: Mapping[str, Any]) -> None:
        """Raises InvalidRequest for a schema that does not compile within the limits; EngineError
        when that cannot be found out."""
        schema = json.dumps(response_format["json_schema"]["schema"])
        refusal = self._verdicts.get(key := _key(schema), _UNKNOWN)
        if refusal == _UNKNOWN:
            refusal = self._verdicts[key] = self._refusal(schema)
            while len(self._verdicts) > _REMEMBERED:
                self._verdicts.popitem(last=False)
        if refusal is not None:
            raise InvalidRequest(f"response_format: {refusal}")

    def warm_up(self) -> None:
        """Start a process, so that the first schema need not wait seconds for it."""
        with contextlib.suppress(NoVerdictError, EngineDead):
            if self._vocabulary is not None:
                self._refusal_by(self._started(self._vocabulary), "{}")

    def close(self) -> None:
        """Kill all processes. What is being checked raises EngineDead."""
        self._closed = True
        for process in self._processes.copy():
            process.close()

    @cached_property
    def _vocabulary(self) -> str | None:
        """As JSON. None: xgrammar cannot read it, and SGLang refuses every schema by itself."""
        try:
            info = TokenizerInfo.from_huggingface(
                self._tokenizer,
                vocab_size=self._vocabulary_tokens,
                stop_token_ids=self._stop_tokens,
            )
        except Exception:  # as SGLang does
            log.warning("schemas are not checked: xgrammar cannot read the vocabulary")
            return None
        text: str = info.serialize_json()
        return text

    def _refusal(self, schema: str) -> str | None:
        """Why `schema` is refused, if it is. Raises EngineError, EngineDead."""
        if self._vocabulary is None:
            return None
        for _ in range(_TRIES):
            with contextlib.suppress(NoVerdictError):
                return self._refusal_by(self._taken(self._vocabulary), schema)
        raise EngineError("the processes that check a job's schema were killed, or take too long")

    def _taken(self, vocabulary: str) -> GrammarProcess:
        """A process that is idle, or a new one. Raises NoVerdictError."""
        with contextlib.suppress(IndexError):
            while not (process := self._idle.pop()).is_usable:
                self._end(process)
            return process
        with self._watchdog.running("the process that compiles grammars"):
            return self._started(vocabulary)

    def _started(self, vocabulary: str) -> GrammarProcess:
        process = GrammarProcess(vocabulary)
        self._processes.add(process)
        if self._closed:
            self._end(process)
            raise EngineDead("the engine was closed")
        return process

    def _refusal_by(self, process: GrammarProcess, schema: str) -> str | None:
        try:
            return process.refusal(schema)
        finally:
            if process.is_usable:
                self._idle.append(process)
            else:
                self._end(process)

    def _end(self, process: GrammarProcess) -> None:
        process.close()
        self._processes.discard(process)


def _key(schema: str) -> bytes:
    return hashlib.sha256(schema.encode()).digest()
