"""Whether a JSON schema compiles to a grammar, in bounded time and memory.

SGLang compiles grammars in threads of its scheduler process. They cannot be stopped: 300 properties
of which 16 to 32 are required keep one busy for half a minute, a few hundred bytes more for hours
and gigabytes. So a schema that might be costly is compiled first in a process that can be
killed. One that is small and plain is not: it takes milliseconds.
"""

import contextlib
import hashlib
import json
import math
import multiprocessing
import os
import resource
import signal
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cached_property
from multiprocessing.connection import Connection
from typing import Any

from xgrammar import GrammarCompiler, TokenizerInfo

from workers.engine.port import InvalidRequest
from workers.engine.watchdog import Watchdog

CPU_LIMIT_S = 10
"""What compiling may take of one core: on a busy machine a good schema is no worse."""
WALL_LIMIT_S = 60.0
MEMORY_BYTES = 2 * 1024**3
"""What compiling may allocate, beside the vocabulary."""
GRAMMAR_BYTES = 64 * 1024**2
"""The largest compiled grammar: SGLang keeps it for the next request with the same schema."""
_REMEMBERED = 10_000
_MAX_REASON_CHARACTERS = 500
_JOIN_S = 1.0

_PLAIN_BYTES = 4096
_PLAIN_KEYWORDS = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "items", "enum", "const"),
        *("anyOf", "$defs", "$ref", "title", "description", "default", "examples"),
    }
)
_BY_NAME = frozenset({"properties", "$defs"})
"""Keywords whose values are schemas by name."""
_VALUES = frozenset({"required", "enum", "const", "default", "examples"})
"""Keywords whose values are no schemas."""

_processes = multiprocessing.get_context("forkserver")


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

    @staticmethod
    def concerns(response_format: Mapping[str, Any] | None) -> bool:
        """Whether there is something to check."""
        form = (response_format or {}).get("json_schema")
        return form is not None and not is_plain(form["schema"])

    def check(self, response_format: Mapping[str, Any]) -> None:
        """Raises InvalidRequest for a schema that does not compile within the limits."""
        schema = json.dumps(response_format["json_schema"]["schema"])
        key = hashlib.sha256(schema.encode()).digest()
        if key not in self._verdicts:
            with contextlib.suppress(_NoVerdictError):  # SGLang then judges it by itself
                self._verdicts[key] = self._compile(schema)
            while len(self._verdicts) > _REMEMBERED:
                self._verdicts.popitem(last=False)
        if (refusal := self._verdicts.get(key)) is not None:
            raise InvalidRequest(f"response_format: {refusal}")

    @cached_property
    def _vocabulary(self) -> str:
        info = TokenizerInfo.from_huggingface(
            self._tokenizer, vocab_size=self._vocabulary_tokens, stop_token_ids=self._stop_tokens
        )
        text: str = info.serialize_json()
        return text

    def _compile(self, schema: str) -> str | None:
        """Compile `schema` in a process of its own. Returns what is wrong with it, if anything."""
        ours, theirs = _processes.Pipe(duplex=False)
        # The server that forks them has imported this module, which takes seconds.
        _processes.set_forkserver_preload([__name__])
        process = _processes.Process(
            target=_compile_here,
            args=(self._vocabulary, schema, CPU_LIMIT_S, theirs),
            daemon=True,
        )
        with self._watchdog.running("the process that compiles grammars"):
            process.start()
        theirs.close()
        with ours:
            try:
                if not ours.poll(WALL_LIMIT_S):
                    raise _NoVerdictError
                answer: str | None = ours.recv()
                return answer
            except EOFError:
                process.join(_JOIN_S)
                return _meaning_of(process.exitcode)
            finally:
                process.kill()
                process.join(_JOIN_S)


class _NoVerdictError(Exception):
    """The process was stopped, starved or killed: that is not the schema's fault."""


def is_plain(schema: Any) -> bool:
    """Whether a schema is so small and simple that it compiles in milliseconds."""
    return len(json.dumps(schema)) <= _PLAIN_BYTES and all(
        map(_PLAIN_KEYWORDS.issuperset, _keywords(schema))
    )


def _keywords(schema: Any) -> Iterator[set[str]]:
    """The keywords of a schema and of all within it."""
    if isinstance(schema, list):
        for each in schema:
            yield from _keywords(each)
    elif isinstance(schema, dict):
        yield set(schema)
        for keyword, value in schema.items():
            if keyword in _BY_NAME and isinstance(value, dict):
                yield from _keywords(list(value.values()))
            elif keyword not in _VALUES:
                yield from _keywords(value)


def _compile_here(vocabulary: str, schema: str, limit_s: int, answer: Connection) -> None:
    """In a process of its own. Answers with what is wrong with the schema, or with None."""
    os.nice(10)  # the model goes first
    info = TokenizerInfo.deserialize_json(vocabulary)
    compiler = GrammarCompiler(info, max_threads=1, cache_enabled=False)
    _limit_memory()
    until_s = _cpu_s() + limit_s
    resource.setrlimit(resource.RLIMIT_CPU, (until_s, until_s + 1))  # SIGXCPU, then SIGKILL
    try:
        size = compiler.compile_json_schema(schema).memory_size_bytes
    except MemoryError:
        answer.send(_TOO_MUCH_MEMORY)
    except Exception as error:
        answer.send(" ".join(str(error).split())[:_MAX_REASON_CHARACTERS])
    else:
        too_large = size > GRAMMAR_BYTES
        answer.send(f"its schema compiles to {size:,} bytes" if too_large else None)


_TOO_MUCH_MEMORY = "its schema takes too much memory to compile"


def _cpu_s() -> int:
    """What this process has used, which the limit counts, too."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return math.ceil(used.ru_utime + used.ru_stime)


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        used_bytes = int(file.read().split()[0]) * resource.getpagesize()
    with contextlib.suppress(ValueError):  # a lower limit is set already
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used_bytes + MEMORY_BYTES, hard))


def _meaning_of(exit_code: int | None) -> str:
    """Of a process that ended without an answer. Raises _NoVerdictError."""
    if exit_code == -signal.SIGXCPU:
        return f"its schema takes more than {CPU_LIMIT_S} s to compile"
    if exit_code in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS):
        return _TOO_MUCH_MEMORY
    raise _NoVerdictError
