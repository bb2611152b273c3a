"""The dimensions of instruments, and what several of them have in common."""

from niyama.telemetry.instrument import Attribute
from niyama.tracing import names

SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0, 86_400.0),
)
"""From what a chat notices to what a batch job may take."""
KAFKA = {names.MESSAGING_SYSTEM: names.KAFKA}

POOL = Attribute("niyama.pool", "the pool that it is about")
OPERATION = Attribute(names.GEN_AI_OPERATION_NAME, "`chat` or `text_completion`")
MODEL = Attribute(names.GEN_AI_REQUEST_MODEL, "the model that the worker serves")
ERROR = Attribute(names.ERROR_TYPE, "why it did not succeed; absent if it did")
TOPIC = Attribute(names.MESSAGING_DESTINATION_NAME, "the topic")
GROUP = Attribute(names.MESSAGING_CONSUMER_GROUP_NAME, "the consumer group")
QOS_KIND = Attribute(
    "niyama.qos.kind",
    "`interactive`, `deadline`, `task` or `batch`; absent of a job that cannot be read",
)
QOS_CLASS = Attribute(
    "niyama.qos.class", "the class that the job names; absent if it gives targets of its own"
)
TENANT = Attribute("niyama.tenant", "the job's tenant", bounded=False)
IMPORTANCE = Attribute("niyama.importance", "`high` or `low`")
TARGET = Attribute("niyama.target", "`ttft`, `tbt` or `ttlt`")
MET = Attribute("niyama.met", "`true` or `false`")
TOKEN = Attribute("niyama.token", "`first` or `last`: which one the deadline is for")
DECISION = Attribute("niyama.decision", "`started`, `parked`, `reclaimed`, `restored`, ...")
REASON = Attribute("niyama.reason", "the scheduler's, in words")
STATE = Attribute("niyama.job.state", "`waiting`, `relegated`, `running` or `parked`")
WORKER_STATE = Attribute("niyama.worker.state", "`serving`, `draining` or `gone`")
HTTP_METHOD = Attribute("http.request.method", "`_OTHER` if it is none of the usual ones")
HTTP_ROUTE = Attribute("http.route", "such as `/v1/jobs/{job_id}`; absent for any other path")
HTTP_STATUS = Attribute("http.response.status_code", "absent if the client left before it")
STATUS = Attribute("niyama.job.status", "`completed`, `failed`, `expired` or `cancelled`")
REQUEST_STATE = Attribute("niyama.request.state", "`waiting`, `prefill`, `overdue` or `decode`")
REGIME = Attribute(
    "niyama.regime",
    "`decodes`: alone; `small` or `large`: with prompts, by the tokens in it",
)
PROMPT_TOKENS = Attribute("niyama.prompt_tokens", "of the chat: 128, 1024 or 8192")
TOKEN_TYPE = Attribute("gen_ai.token.type", "`input` or `output`")
SIGNAL = Attribute("niyama.signal", "`metrics` or `traces`")
TRACE_KEPT = Attribute("niyama.trace.kept", "`true`, or `false` where there were too many")
