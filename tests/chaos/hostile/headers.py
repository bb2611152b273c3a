"""Headers that are null, huge, many or not what their name says."""

from dataclasses import replace

from tests.chaos.hostile.kinds import HostileRecord, Setting, invalid_job, kind, valid_job
from tests.chaos.workload import REPLY_TOPICS

HUGE_BYTES = 7 * 2**20
MANY = 5_000


def _with_reply(setting: Setting, *headers: tuple[str, bytes | None]) -> HostileRecord:
    topic = setting.choose.choice(REPLY_TOPICS)
    return valid_job(setting, setting.job(reply_topic=topic), headers=headers)


def _invalid(setting: Setting, *headers: tuple[str, bytes | None]) -> HostileRecord:
    return replace(invalid_job(setting, setting.job(qos="gold")), headers=headers)


@kind("odd-headers")
def _odd_headers(setting: Setting) -> HostileRecord:
    return _with_reply(
        setting,
        ("", b""),
        ("niyama-reason", b"\xff\xfe"),
        ("traceparent", b"\xff" * 100),
        ("traceparent", b"again"),
        ("x" * 1000, b"y" * 10_000),
    )


@kind("null-header")
def _null_header(setting: Setting) -> HostileRecord:
    return valid_job(setting, setting.job(), headers=(("x-anything", None),))


@kind("null-header-of-an-invalid-job")
def _null_header_of_an_invalid_job(setting: Setting) -> HostileRecord:
    return _invalid(setting, ("x-anything", None))


@kind("null-traceparent")
def _null_traceparent(setting: Setting) -> HostileRecord:
    return _with_reply(setting, ("traceparent", None))


@kind("nul-in-tracestate")
def _nul_in_tracestate(setting: Setting) -> HostileRecord:
    return _with_reply(setting, ("tracestate", b"a\x00b"))


@kind("huge-header")
def _huge_header(setting: Setting) -> HostileRecord:
    return _with_reply(setting, ("x-huge", b"x" * HUGE_BYTES))


@kind("huge-header-of-an-invalid-job")
def _huge_header_of_an_invalid_job(setting: Setting) -> HostileRecord:
    return _invalid(setting, ("x-huge", b"x" * HUGE_BYTES))


@kind("many-headers")
def _many_headers(setting: Setting) -> HostileRecord:
    return _with_reply(setting, *[(f"x-{number}", b"y") for number in range(MANY)])


@kind("many-headers-of-an-invalid-job")
def _many_headers_of_an_invalid_job(setting: Setting) -> HostileRecord:
    return _invalid(setting, *[(f"x-{number}", b"y") for number in range(MANY)])
