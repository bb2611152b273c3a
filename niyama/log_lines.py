"""What a line of the log says: readable, or JSON; bounded, without secrets, and about which job."""

import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from opentelemetry.trace import format_trace_id, get_current_span
from pydantic import SecretStr
from pydantic_settings import BaseSettings

MAX_CHARACTERS = 2_000
"""Of a message: whatever a client sent that is in an error is not logged at length."""
MAX_TRACEBACK_CHARACTERS = 16_000
MIN_SECRET_CHARACTERS = 8
"""Shorter ones are hidden in URLs only: they would hide what is no secret."""
MIN_WORD_CHARACTERS = 16
"""Likewise of letters or digits alone, such as a password that is the name of the database."""
HIDDEN = "***"
_SECRET_VARIABLES = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY|ACCESS_KEY|_HEADERS)$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_WHOLE_TOKEN = r"(?:(?<![\w./-])|(?<=\\x00)){}(?![\w/-]|\.\w)"
"""SASL separates by zero bytes, which a `repr` shows."""
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")


class LogContext(NamedTuple):
    """What is being worked on. Made into text by a line that says so: most jobs log nothing."""

    job_id: object
    """None: a record that is no job."""
    trace_id: int | None = None
    """None: that of the current span, if there is one."""


_NO_CONTEXT = LogContext(None)
_context: ContextVar[LogContext] = ContextVar("niyama_log_context", default=_NO_CONTEXT)


def set_log_context(job_id: object, trace_id: int | None = None) -> None:
    """What the current task logs from now on is about this job and its trace."""
    _context.set(LogContext(job_id, trace_id))


@contextmanager
def log_context(job_id: object, trace_id: int | None = None) -> Iterator[None]:
    """What is logged inside is about this job and its trace."""
    token = _context.set(LogContext(job_id, trace_id))
    try:
        yield
    finally:
        _context.reset(token)


def secrets_of(settings: BaseSettings) -> set[str]:
    """What of these settings must never be logged."""
    found: set[str] = set()
    for _, value in settings:
        if isinstance(value, SecretStr):
            found.add(value.get_secret_value())
        elif isinstance(value, str):
            for password in _passwords_in(value):
                found |= {password, unquote(password)}
    return found


class LineFormatter(logging.Formatter):
    """One line for people, or one JSON object."""

    def __init__(self, line_format: str | None, secrets: Collection[str] = ()) -> None:
        """`line_format` is that of a readable line; None makes JSON. Hides `secrets`, and those in
        this process's environment."""
        super().__init__(line_format)
        self.line_format = line_format
        self._secrets = _pattern({*secrets, *_environment_secrets(os.environ)})

    def format(self, record: logging.LogRecord) -> str:
        context = _context_of(record)
        if self.line_format is None:
            return json.dumps(self._object(record, context))
        job = "" if context.job_id is None else f" [job {context.job_id}]"
        # As a record of its own: other handlers may have the record, too.
        shown = logging.makeLogRecord(record.__dict__ | {"args": None, "exc_info": None})
        shown.msg, shown.exc_text = _on_one_line(self._message(record)) + job, None
        shown.stack_info = None
        traceback = self._traceback(record)
        return super().format(shown) + (f"\n{traceback}" if traceback else "")

    def _object(self, record: logging.LogRecord, context: LogContext) -> dict[str, object]:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._message(record),
            "pid": record.process,
        }
        if context.job_id is not None:
            fields["job_id"] = str(context.job_id)
        if trace_id := _trace_id_of(context):
            fields["trace_id"] = trace_id
        if traceback := self._traceback(record):
            fields["exception"] = traceback
        return fields

    def _message(self, record: logging.LogRecord) -> str:
        return bounded(self._without_secrets(record.getMessage()), MAX_CHARACTERS)

    def _traceback(self, record: logging.LogRecord) -> str:
        if not record.exc_info:
            return ""
        lines = self._without_secrets(self.formatException(record.exc_info)).splitlines()
        short = "\n".join(bounded(_on_one_line(line), MAX_CHARACTERS) for line in lines)
        return bounded(short, MAX_TRACEBACK_CHARACTERS)

    def _without_secrets(self, text: str) -> str:
        """To be called before `text` is bounded, which may cut a secret in two."""
        if self._secrets is not None:
            text = self._secrets.sub(HIDDEN, text)
        return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)


def _on_one_line(text: str) -> str:
    """With control characters escaped: whoever writes a job cannot write lines of the log, nor to
    the terminal that shows it."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def bounded(text: str, limit: int) -> str:
    """`text` without its middle where it has more characters than `limit`."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters ...] {text[-half:]}"


def _pattern(secrets: Collection[str]) -> re.Pattern[str] | None:
    """Finds `secrets`, those that are not long as whole tokens only: not in a name or a path."""
    found: dict[str, str] = {}
    for secret in secrets:
        if len(secret) >= MIN_WORD_CHARACTERS:
            found |= {form: re.escape(form) for form in _forms(secret)}
        elif len(secret) >= MIN_SECRET_CHARACTERS and not (secret.isalpha() or secret.isdigit()):
            found |= {form: _WHOLE_TOKEN.format(re.escape(form)) for form in _forms(secret)}
    longest_first = sorted(found, key=len, reverse=True)
    return re.compile("|".join(found[form] for form in longest_first)) if found else None


def _forms(secret: str) -> set[str]:
    """`secret` as it is in texts: itself, in a `repr` of text or bytes, in a URL, in JSON."""
    encoded = secret.encode(errors="replace")
    reprs = {repr(secret)[1:-1], repr(encoded)[2:-1]}
    return {secret, *reprs, quote(encoded, safe=""), quote_plus(encoded), json.dumps(secret)[1:-1]}


def _context_of(record: logging.LogRecord) -> LogContext:
    """That of the record itself, or of the task that logs it."""
    job_id = getattr(record, "job_id", None)
    return _context.get() if job_id is None else LogContext(job_id)


def _trace_id_of(context: LogContext) -> str | None:
    if context.trace_id is not None:
        return format_trace_id(context.trace_id)
    span = get_current_span().get_span_context()
    return format_trace_id(span.trace_id) if span.is_valid else None


def _passwords_in(value: str) -> Iterator[str]:
    """Of a URL: before its host, and among its parameters."""
    try:
        url = urlsplit(value)
        if url.password:
            yield url.password
    except ValueError:
        return
    for name, given in parse_qsl(url.query):
        if name.endswith("password"):
            yield given


def _environment_secrets(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if _SECRET_VARIABLES.search(name):
            yield value
            if name.endswith("_HEADERS"):  # key=value,...
                for header in value.split(","):
                    yield header.partition("=")[2].strip()
                    yield header.split()[-1] if header.strip() else ""  # of "Bearer token"
