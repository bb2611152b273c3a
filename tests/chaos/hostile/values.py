"""Bytes that are no message at all, in any topic."""

from tests.chaos.hostile.kinds import HostileRecord, Setting, encoded, kind


def _anywhere(
    setting: Setting, value: bytes | None, key: bytes | None = b"hostile"
) -> HostileRecord:
    topics = setting.topics
    read = [*topics.jobs, topics.events, topics.tokens]
    if key is not None:  # what is compacted needs keys
        read.append(topics.control)
    topic = setting.choose.choice(read)
    return HostileRecord(topic.name, value, key, refused=topic in topics.jobs)


@kind("null-value")
def null_value(setting: Setting) -> HostileRecord:
    return _anywhere(setting, None)


@kind("empty-value")
def _empty_value(setting: Setting) -> HostileRecord:
    return _anywhere(setting, b"")


@kind("no-key")
def _no_key(setting: Setting) -> HostileRecord:
    return _anywhere(setting, b"{}", key=None)


@kind("not-utf8")
def _not_utf8(setting: Setting) -> HostileRecord:
    return _anywhere(setting, setting.choose.randbytes(200), key=b"\xff\x00\xfe")


@kind("cut-off-json")
def _cut_off_json(setting: Setting) -> HostileRecord:
    whole = encoded(setting.job())
    return _anywhere(setting, whole[: setting.choose.randrange(1, len(whole))])


@kind("not-an-object")
def _not_an_object(setting: Setting) -> HostileRecord:
    value = setting.choose.choice([b"42", b"null", b"[]", b'"text"', b"NaN", b"-1e999", b"true"])
    return _anywhere(setting, value)


@kind("deep-nesting")
def _deep_nesting(setting: Setting) -> HostileRecord:
    opening = setting.choose.choice([b"[", b'{"job_id":'])
    return _anywhere(setting, opening * 100_000)


@kind("deep-nesting-in-a-field")
def _deep_nesting_in_a_field(setting: Setting) -> HostileRecord:
    nested = b"[" * 50_000 + b"]" * 50_000
    value = encoded(setting.job(metadata="NESTED")).replace(b'"NESTED"', nested)
    return HostileRecord(setting.job_topic(), value, refused=True)


@kind("two-megabytes")
def _two_megabytes(setting: Setting) -> HostileRecord:
    return HostileRecord(
        setting.job_topic(), encoded(setting.job(prompt="x" * 2**21)), refused=True
    )
