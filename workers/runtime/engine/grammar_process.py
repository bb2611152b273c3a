"""A process that compiles grammars: its time and its memory are limited, and it can be killed.

It serves one schema after the other: to read the vocabulary takes longer than to compile most.
"""

import contextlib
import multiprocessing
import os
import resource
import signal
import threading
from multiprocessing.connection import Connection

from xgrammar import GrammarCompiler, TokenizerInfo

from workers.runtime.engine.grammar_walk import GrammarWalk

WALL_LIMIT_S = 60.0
MEMORY_BYTES = 2 * 1024**3
"""What compiling may allocate, beside the vocabulary."""
GRAMMAR_BYTES = 32 * 1024**2
"""The largest compiled grammar. SGLang keeps some for the next requests with the same schema."""
TOKEN_LIMIT_S = 0.02
"""What a grammar may take of one core for a token. Most take less than 1 ms."""
_CACHE_BYTES = 4 * 1024**2
"""Rules that many schemas share, as that of a string, are compiled once. No more: whatever is found
here is missing in the time that a schema takes."""
_KEPT_BYTES = MEMORY_BYTES // 8
"""A process that has grown by more is replaced by a new one."""
_MAX_REASON_CHARACTERS = 500
_JOIN_S = 1.0
_NO_MEMORY = "its schema takes too much memory to compile, or crashes the compiler"

_context = multiprocessing.get_context("forkserver")


class NoVerdictError(Exception):
    """The process was stopped, starved or killed: that is not the schema's fault."""


class CpuLimitError(Exception):
    """The schema takes more CPU time than it was given."""


class GrammarProcess:
    """Call everything but `close` from one thread at a time."""

    def __init__(self, vocabulary: str) -> None:
        """`vocabulary` is a TokenizerInfo as JSON. Raises NoVerdictError.

        The first one takes seconds: it starts the server that forks it and those that follow.
        """
        # The server has imported this module before it forks.
        _context.set_forkserver_preload([__name__])
        self._is_worn = False
        try:
            self._connection, theirs = _context.Pipe()
            with theirs:
                self._process = _context.Process(
                    target=_serve, args=(vocabulary, theirs), daemon=True
                )
                self._process.start()
        except (OSError, EOFError) as error:  # the server has just died; the next start replaces it
            raise NoVerdictError from error

    @property
    def is_usable(self) -> bool:
        """Whether it can take another schema."""
        return not self._is_worn and self._process.is_alive()

    def refusal(self, schema: str, cpu_limit_s: float) -> str | None:
        """Compile `schema`. Returns why it is refused, if it is. Raises CpuLimitError,
        NoVerdictError."""
        limit = threading.Timer(WALL_LIMIT_S, self._process.kill)
        limit.daemon = True
        limit.start()
        try:
            self._connection.send((schema, cpu_limit_s))
            refusal: str | None
            refusal, self._is_worn = self._connection.recv()
            return refusal
        except (OSError, EOFError):
            self._is_worn = True
            self._process.join(_JOIN_S)
            return _meaning_of(self._process.exitcode)
        finally:
            limit.cancel()

    def close(self) -> None:
        """Kill it. What it compiles has no verdict."""
        self._process.kill()
        self._process.join(_JOIN_S)


def _meaning_of(exit_code: int | None) -> str:
    """Of a process that ended without an answer. Raises CpuLimitError, NoVerdictError."""
    if exit_code == -signal.SIGPROF:
        raise CpuLimitError
    if exit_code in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS):
        return _NO_MEMORY
    raise NoVerdictError


# ---- in the process


def _serve(vocabulary: str, connection: Connection) -> None:
    """Answer each schema with why it is refused, if it is, and whether the process is worn."""
    os.nice(10)  # the model goes first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the worker
    _limit(resource.RLIMIT_CORE, 0)
    info = TokenizerInfo.deserialize_json(vocabulary)
    compiler = GrammarCompiler(info, max_threads=1, cache_limit_bytes=_CACHE_BYTES)
    walk = GrammarWalk(info)
    initial_bytes = _used_bytes()
    _limit(resource.RLIMIT_AS, initial_bytes + MEMORY_BYTES)
    with contextlib.suppress(EOFError, OSError):  # until the worker has left
        while True:
            schema, cpu_limit_s = connection.recv()
            signal.setitimer(signal.ITIMER_PROF, cpu_limit_s)  # then SIGPROF ends it
            refusal = _refusal(compiler, walk, schema)
            signal.setitimer(signal.ITIMER_PROF, 0)
            is_worn = refusal == _NO_MEMORY or _used_bytes() > initial_bytes + _KEPT_BYTES
            connection.send((refusal, is_worn))


def _refusal(compiler: GrammarCompiler, walk: GrammarWalk, schema: str) -> str | None:
    try:
        grammar = compiler.compile_json_schema(schema)
        token_s = walk.slowest_token_s(grammar, TOKEN_LIMIT_S)
    except MemoryError:
        return _NO_MEMORY
    except Exception as error:
        return " ".join(str(error).split())[:_MAX_REASON_CHARACTERS]
    if grammar.memory_size_bytes > GRAMMAR_BYTES:
        return f"its schema compiles to {grammar.memory_size_bytes:,} bytes"
    if token_s > TOKEN_LIMIT_S:
        return f"its schema takes {token_s:.2g} s for a single token: it is too ambiguous"
    return None


def _limit(kind: int, soft: int) -> None:
    with contextlib.suppress(ValueError):  # a lower limit is set already
        resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))


def _used_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
