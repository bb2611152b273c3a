"""Whether a JSON schema compiles to a grammar, in bounded time and memory.

SGLang compiles grammars in threads of its scheduler process. They cannot be stopped: 300 properties
of which 16 to 32 are required keep one busy for half a minute, a few hundred bytes more for hours
and gigabytes. What a schema costs cannot be told from how it looks, so each is compiled first in a
process that can be killed: an ordinary one takes some milliseconds there, and is remembered.
One that takes much longer is costly: it is put off (see `grammar_queue`), then given its full time.
"""

import contextlib
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from xgrammar import TokenizerInfo

from workers.engine.port import EngineDead, EngineError, InvalidRequest
from workers.engine.watchdog import Watchdog
from workers.runtime.engine.grammar_process import CpuLimitError, GrammarProcess, NoVerdictError

log = logging.getLogger(__name__)

CPU_LIMIT_S = 10.0
"""What a schema may take of one core: on a busy machine a good one is no worse."""
FIRST_CPU_LIMIT_S = 0.5
"""A schema that takes more of one core is costly: ordinary ones take less than a tenth of it."""
_PAUSES_S = (0.0, 1.0, 5.0)
"""Before each try. Processes may be killed, or not start, because of whatever else goes on; after
so many tries the schema is given up."""
_REMEMBERED = 10_000
_UNKNOWN = ""
_COSTLY = "costly"
"""Among the verdicts: it has had its first try, no more."""


class GrammarCheck:
    """Compiles schemas ahead of SGLang, each once. May be called from several threads."""

    def __init__(
        self,
        tokenizer: Any,
        vocabulary_tokens: int,
        stop_tokens: set[int],
        watchdog: Watchdog,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._tokenizer = tokenizer
        self._vocabulary_tokens = vocabulary_tokens
        self._stop_tokens = sorted(stop_tokens)
        self._watchdog = watchdog
        self._sleep = sleep
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

    def try_first(self, response_format: Mapping[str, Any]) -> bool:
        """As `check`, but returns False for a schema that is costly."""
        schema = json.dumps(response_format["json_schema"]["schema"])
        refusal = self._verdicts.get(_key(schema), _UNKNOWN)
        if refusal == _UNKNOWN:
            refusal = self._found_out(schema, FIRST_CPU_LIMIT_S, _COSTLY)
        if refusal == _COSTLY:
            return False
        _raise_if_refused(refusal)
        return True

    def check(self, response_format: Mapping[str, Any]) -> None:
        """Raises InvalidRequest for a schema that does not compile within the limits; EngineError
        when that cannot be found out."""
        schema = json.dumps(response_format["json_schema"]["schema"])
        refusal = self._verdicts.get(_key(schema), _UNKNOWN)
        if refusal in (_UNKNOWN, _COSTLY):
            beyond = f"its schema takes more than {CPU_LIMIT_S:g} s to compile and try"
            refusal = self._found_out(schema, CPU_LIMIT_S, beyond)
        _raise_if_refused(refusal)

    def warm_up(self) -> None:
        """Start a process, so that the first schema need not wait seconds for it."""
        with contextlib.suppress(NoVerdictError, EngineDead):
            if self._vocabulary is not None:
                self._refusal_by(self._started(self._vocabulary), "{}", CPU_LIMIT_S)

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

    def _found_out(self, schema: str, cpu_limit_s: float, beyond: str) -> str | None:
        """The verdict, which is remembered; `beyond` when it takes more than `cpu_limit_s`. Raises
        EngineError, EngineDead."""
        try:
            refusal = self._refusal(schema, cpu_limit_s)
        except CpuLimitError:
            refusal = beyond
        self._verdicts[_key(schema)] = refusal
        while len(self._verdicts) > _REMEMBERED:
            self._verdicts.popitem(last=False)
        return refusal

    def _refusal(self, schema: str, cpu_limit_s: float) -> str | None:
        """Why `schema` is refused, if it is. Raises CpuLimitError, EngineError, EngineDead."""
        if self._vocabulary is None:
            return None
        for pause_s in _PAUSES_S:
            self._sleep(pause_s)
            with contextlib.suppress(NoVerdictError):
                return self._refusal_by(self._taken(self._vocabulary), schema, cpu_limit_s)
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

    def _refusal_by(self, process: GrammarProcess, schema: str, cpu_limit_s: float) -> str | None:
        try:
            return process.refusal(schema, cpu_limit_s)
        finally:
            if process.is_usable:
                self._idle.append(process)
            else:
                self._end(process)

    def _end(self, process: GrammarProcess) -> None:
        process.close()
        self._processes.discard(process)


def _raise_if_refused(refusal: str | None) -> None:
    if refusal is not None:
        raise InvalidRequest(f"response_format: {refusal}")


def _key(schema: str) -> bytes:
    return hashlib.sha256(schema.encode()).digest()
