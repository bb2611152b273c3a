"""Whether a JSON schema compiles to a grammar, in bounded time and memory.

SGLang compiles grammars in threads of its scheduler process. They cannot be stopped: 300 properties
of which 16 to 32 are required keep one busy for half a minute, a few hundred bytes more for hours
and gigabytes. So a schema that might be costly is compiled first in a process that can be
killed. One that is small and plain is not: it takes milliseconds.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import signal
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from multiprocessing.connection import Connection
from typing import Any

from xgrammar import GrammarCompiler, TokenizerInfo

from workers.engine.port import InvalidRequest

COMPILE_LIMIT_S = 10.0
MEMORY_BYTES = 2 * 1024**3
"""What compiling may allocate, beside the vocabulary."""
GRAMMAR_BYTES = 64 * 1024**2
"""The largest compiled grammar: SGLang keeps it for the next request with the same schema."""
_AT_ONCE = 2
_REMEMBERED = 1024

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
    """Compiles schemas ahead of SGLang, each once."""

    def __init__(self, tokenizer: Any, vocabulary_tokens: int, stop_tokens: set[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary_tokens = vocabulary_tokens
        self._stop_tokens = sorted(stop_tokens)
        self._refusals: OrderedDict[str, str | None] = OrderedDict()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="grammars")

    async def check(self, response_format: Mapping[str, Any] | None) -> None:
        """Raises InvalidRequest for a schema that does not compile within the limits."""
        form = (response_format or {}).get("json_schema")
        if form is None or is_plain(form["schema"]):
            return
        schema = json.dumps(form["schema"])
        if schema not in self._refusals:
            loop = asyncio.get_running_loop()
            refusal = await loop.run_in_executor(self._threads, self._compile, schema)
            self._refusals[schema] = refusal
            if len(self._refusals) > _REMEMBERED:
                self._refusals.popitem(last=False)
        if (refusal := self._refusals.get(schema)) is not None:
            raise InvalidRequest(f"response_format: {refusal}")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

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
            target=_compile_here, args=(self._vocabulary, schema, theirs), daemon=True
        )
        process.start()
        theirs.close()
        with ours:
            try:
                if not ours.poll(COMPILE_LIMIT_S):
                    return f"its schema takes longer than {COMPILE_LIMIT_S:g} s to compile"
                answer: str | None = ours.recv()
                return answer
            except EOFError:
                process.join()
                return _meaning_of(process.exitcode)
            finally:
                process.kill()
                process.join()


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


def _compile_here(vocabulary: str, schema: str, answer: Connection) -> None:
    """In a process of its own. Answers with what is wrong with the schema, or with None."""
    os.nice(10)  # the model goes first
    compiler = GrammarCompiler(TokenizerInfo.deserialize_json(vocabulary), cache_enabled=False)
    _limit_memory()
    try:
        size = compiler.compile_json_schema(schema).memory_size_bytes
    except MemoryError:
        answer.send(_TOO_MUCH_MEMORY)
    except Exception as error:
        answer.send(" ".join(str(error).split()))
    else:
        too_large = size > GRAMMAR_BYTES
        answer.send(f"its schema compiles to {size:,} bytes" if too_large else None)


_TOO_MUCH_MEMORY = "its schema takes too much memory to compile"


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        used_bytes = int(file.read().split()[0]) * resource.getpagesize()
    with contextlib.suppress(ValueError):  # a lower limit is set already
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used_bytes + MEMORY_BYTES, hard))


def _meaning_of(exit_code: int | None) -> str | None:
    """Of a process that ended without an answer."""
    if exit_code in (-signal.SIGTERM, -signal.SIGINT):
        return None  # this worker is being stopped: the schema has nothing to do with it
    return _TOO_MUCH_MEMORY
