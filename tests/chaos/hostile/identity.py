"""Further records with the id of a job that belongs to somebody else.

That job has to end as if nothing had happened.
"""

from tests.chaos.hostile.kinds import HostileRecord, Setting, encoded, kind
from tests.chaos.hostile.values import null_value

RECENT_JOBS = 50


@kind("duplicate-record")
def _duplicate_record(setting: Setting) -> HostileRecord:
    """The same record once more, as a producer without idempotence sends it."""
    if not setting.published:
        return null_value(setting)
    job = setting.choose.choice(setting.published[-RECENT_JOBS:])
    interactive = job.qos in ("chat", "q1")
    topic = setting.topics.interactive if interactive else setting.topics.batch
    return HostileRecord(topic.name, job.to_bytes(), key=str(job.job_id).encode())


def _about_another(setting: Setting, topic: str, **changes: object) -> HostileRecord:
    if not setting.running:
        return null_value(setting)
    job_id = setting.choose.choice(setting.running).job_id
    value = encoded(setting.job(job_id=str(job_id), **changes))
    return HostileRecord(topic, value, str(job_id).encode())


@kind("foreign-id-malformed")
def _foreign_id_malformed(setting: Setting) -> HostileRecord:
    return _about_another(setting, setting.topics.interactive.name, max_tokens=0)


@kind("foreign-id-wrong-model")
def _foreign_id_wrong_model(setting: Setting) -> HostileRecord:
    return _about_another(setting, setting.topics.interactive.name, model="another")


@kind("foreign-id-other-topic")
def _foreign_id_other_topic(setting: Setting) -> HostileRecord:
    return _about_another(setting, setting.topics.relegated.name, max_tokens=3)
