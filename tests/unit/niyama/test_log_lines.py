"""Lines of the log: JSON or readable, about a job, bounded, and without secrets."""

import asyncio
import json
import logging
import sys
from urllib.parse import quote, urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from gateway.settings import GatewaySettings
from niyama.log_lines import (
    HIDDEN,
    LineFormatter,
    bounded,
    log_context,
    secrets_of,
    set_log_context,
)
from niyama.logs import FORMAT

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
JSON, TEXT = LineFormatter(None), LineFormatter(FORMAT)


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("niyama.x", logging.WARNING, "x.py", 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


def failed(error: Exception) -> logging.LogRecord:
    made = record("it failed")
    try:
        raise error
    except Exception:
        made.exc_info = sys.exc_info()
    return made


def test_a_json_line_has_what_an_operator_looks_for() -> None:
    line = json.loads(JSON.format(record("%d records", 3)))
    assert (line["level"], line["logger"], line["message"]) == ("warning", "niyama.x", "3 records")
    assert line["time"].endswith("+00:00")
    assert "job_id" not in line


async def test_a_line_is_about_the_job_of_its_task_and_its_trace() -> None:
    async def lines() -> tuple[str, str]:
        set_log_context("job-1", int(TRACE_ID, 16))
        return JSON.format(record("slow")), TEXT.format(record("slow"))

    structured, readable = await asyncio.create_task(lines())

    line = json.loads(structured)
    assert (line["job_id"], line["trace_id"]) == ("job-1", TRACE_ID)
    assert readable.endswith("WARNING niyama.x: slow [job job-1]")
    assert "job-1" not in TEXT.format(record("slow"))


async def test_a_line_may_name_its_job_itself() -> None:
    set_log_context("job-1", int(TRACE_ID, 16))
    line = json.loads(JSON.format(record("refused", job_id="job-2")))
    assert line["job_id"] == "job-2"


def test_lines_inside_are_about_the_job_and_those_after_it_are_not() -> None:
    with log_context("job-1", 7):
        inside = json.loads(JSON.format(record("refused")))
    assert (inside["job_id"], inside["trace_id"]) == ("job-1", f"{7:032x}")
    assert not {"job_id", "trace_id"} & json.loads(JSON.format(record("next"))).keys()


def test_a_line_inside_a_span_has_its_trace() -> None:
    with TracerProvider().get_tracer("x").start_as_current_span("POST /v1/jobs") as span:
        line = json.loads(JSON.format(record("busy")))
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"


@pytest.mark.parametrize("formatter", [JSON, TEXT])
def test_what_a_client_sent_is_never_logged_at_length(formatter: LineFormatter) -> None:
    text = "what the client said " * 100_000
    assert len(formatter.format(record("cannot read %r", text))) < 3_000
    assert len(formatter.format(failed(ValueError(text)))) < 20_000


def test_a_line_stays_one_line_of_json_whatever_is_in_it() -> None:
    text = JSON.format(failed(ValueError("\n{\x00}\ud800")))
    assert "\n" not in text
    assert "ValueError" in json.loads(text)["exception"]


@pytest.mark.parametrize("log_format", [FORMAT, None])
def test_secrets_are_hidden_wherever_they_appear(
    log_format: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer abc12345")
    monkeypatch.setenv("HF_TOKEN", "hf_xyz987")
    secrets = [
        "database-pw",
        "p@ss word",
        "s" * 16,
        "kafka-pw",
        "abc12345",
        "hf_xyz987",
        "key pw 7",
    ]
    settings = GatewaySettings(
        database_url="postgresql://u:database-pw@h/d",
        idempotency_secret=secrets[2],
        kafka_security_protocol="SASL_SSL",
        kafka_username="u",
        kafka_password="kafka-pw",
    )
    odd = settings.model_copy(update={"database_url": "postgresql://u:p%40ss%20word@h/d"})
    key = settings.model_copy(update={"database_url": "postgresql://h/d?sslpassword=key%20pw%207"})
    known = secrets_of(settings) | secrets_of(odd) | secrets_of(key)
    formatter = LineFormatter(log_format, known)
    lines = [
        formatter.format(record("settings %r %r", settings, odd)),
        *(formatter.format(record("it was %s!", secret)) for secret in secrets),
        *(formatter.format(failed(RuntimeError(f"refused {secret}"))) for secret in secrets),
        formatter.format(record("x" * 1_995 + secrets[2] + "y" * 5_000)),
        formatter.format(record("postgresql://other:elsewhere-pw@h/d does not answer")),
    ]
    shown = "\n".join(lines)
    assert [each for each in [*secrets, "elsewhere-pw", "p%40ss"] if each in shown] == []
    assert HIDDEN in shown


@pytest.mark.parametrize("secret", ["p@ss/wörd", 'quo"ted\\', "two words'"])
def test_a_secret_is_hidden_in_whatever_form_it_is_written(secret: str) -> None:
    formatter = LineFormatter(FORMAT, {secret})
    forms = [
        repr(secret),
        repr(f"\0user\0{secret}".encode()),
        json.dumps({"key": secret}),
        quote(secret, safe=""),
        urlencode({"key": secret}),
    ]
    for form in forms:
        line = formatter.format(record("sent %s", form))
        assert HIDDEN in line
        assert secret[-3:] not in line


def test_a_secret_is_hidden_before_a_long_line_of_a_traceback_is_cut() -> None:
    formatter = LineFormatter(FORMAT, {"s3cret" * 8})
    line = formatter.format(failed(ValueError("x" * 960 + "s3cret" * 8 + "y" * 5_000)))
    assert "s3cret" not in line


@pytest.mark.parametrize("formatter", [JSON, TEXT])
def test_whoever_writes_a_job_writes_no_line_and_controls_no_terminal(
    formatter: LineFormatter,
) -> None:
    line = formatter.format(record("unknown field: %s", "\x1b[2J\nINFO gateway: forged\u2028\x9b"))
    assert not set("\x1b\n\x9b\u2028") & set(line)
    assert "forged" in line


@pytest.mark.parametrize(
    ("secret", "line"),
    [
        ("niyama", "topic niyama.default.interactive created by niyama 1.2"),
        ("postgres", "postgres:5432 does not answer; is postgres up?"),
        ("true", "enable_trace is true"),
        ("20000", "20000 jobs/s"),
        ("12345678", "offset 12345678"),
        (
            "niyama-1",
            "niyama-1.default.interactive, /var/lib/niyama-1/db, niyama-1-worker, xniyama-1",
        ),
    ],
)
def test_what_is_not_secret_is_never_hidden(
    secret: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", secret)
    formatter = LineFormatter("%(message)s", {secret})
    assert formatter.format(record(line)) == line
    assert formatter.format(record("://u:%s@h", secret)) == f"://u:{HIDDEN}@h"


@given(st.text("ab1-_.", min_size=8, max_size=40).filter(lambda text: not text.isalpha()))
def test_a_secret_that_is_no_word_is_hidden_as_a_whole_token(secret: str) -> None:
    assume(not secret.isdigit())
    formatter = LineFormatter("%(message)s", {secret})
    for line in ("key={}", "it was '{}'!", "{}", "{}, refused", "Bearer {}"):
        assert secret not in formatter.format(record(line.format(secret)))


def test_a_bounded_text_keeps_its_beginning_and_its_end() -> None:
    assert bounded("abcdef", 6) == "abcdef"
    assert bounded("abc" + "x" * 100 + "def", 6) == "abc [... 100 characters ...] def"
