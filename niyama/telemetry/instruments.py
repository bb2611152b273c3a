"""Every instrument of this project, in one place: the tables of docs/telemetry.md are made of it.

Names under `gen_ai`, `messaging` and `http` are those of OpenTelemetry's semantic conventions, with
the buckets that these advise; what has no convention is under `niyama`.
"""

from niyama.telemetry.instrument import Attribute, Instrument, Kind
from niyama.tracing import names

_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0, 86_400.0),
)
"""From what a chat notices to what a batch job may take."""
ITERATION_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5),
)
CHUNK_SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384)
_KAFKA = {names.MESSAGING_SYSTEM: names.KAFKA}
_SGLANG = {names.GEN_AI_PROVIDER_NAME: names.SGLANG}

# ---- attributes

OPERATION = Attribute(names.GEN_AI_OPERATION_NAME, "`chat` or `text_completion`")
MODEL = Attribute(names.GEN_AI_REQUEST_MODEL, "the model that the worker serves")
ERROR = Attribute(names.ERROR_TYPE, "why it did not succeed; absent if it did")
TOPIC = Attribute(names.MESSAGING_DESTINATION_NAME, "the topic")
GROUP = Attribute(names.MESSAGING_CONSUMER_GROUP_NAME, "the consumer group")
QOS_KIND = Attribute("niyama.qos.kind", "`interactive`, `deadline`, `task` or `batch`")
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
HTTP_METHOD = Attribute("http.request.method", "`_OTHER` if it is none of the usual ones")
HTTP_ROUTE = Attribute("http.route", "such as `/v1/jobs/{job_id}`; absent for any other path")
HTTP_STATUS = Attribute("http.response.status_code", "absent if the client left before it")
STATUS = Attribute("niyama.job.status", "`completed`, `failed`, `expired` or `cancelled`")
REQUEST_STATE = Attribute("niyama.request.state", "`waiting`, `prefill`, `overdue` or `decode`")
PROMPT_TOKENS = Attribute("niyama.prompt_tokens", "of the chat: 128, 1024 or 8192")
TOKEN_TYPE = Attribute("gen_ai.token.type", "`input` or `output`")
SIGNAL = Attribute("niyama.signal", "`metrics` or `traces`")
TRACE_FATE = Attribute("niyama.trace.fate", "`kept` or `dropped`")

# ---- a worker's jobs

REQUEST_DURATION = Instrument(
    "gen_ai.server.request.duration",
    Kind.HISTOGRAM,
    "s",
    "From when the engine got a request to the end of its answer",
    (OPERATION, MODEL, ERROR),
    _SGLANG,
    (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
TIME_TO_FIRST_TOKEN = Instrument(
    "gen_ai.server.time_to_first_token",
    Kind.HISTOGRAM,
    "s",
    "From when the engine got a request to its first token",
    (OPERATION, MODEL),
    _SGLANG,
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
TIME_PER_OUTPUT_TOKEN = Instrument(
    "gen_ai.server.time_per_output_token",
    Kind.HISTOGRAM,
    "s",
    "Mean time between the tokens of an answer, after the first",
    (OPERATION, MODEL),
    _SGLANG,
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
JOB_TARGETS = Instrument(
    "niyama.job.targets",
    Kind.COUNTER,
    "{target}",
    "Targets of jobs that ended here, met or not: attainment is the share that was met",
    (TARGET, MET, QOS_KIND, QOS_CLASS, TENANT),
)
JOB_SLACK = Instrument(
    "niyama.job.slack",
    Kind.HISTOGRAM,
    "s",
    "How long before its deadline a token came that was in time",
    (TOKEN, QOS_KIND, QOS_CLASS),
    buckets=_SECONDS,
)
JOB_LATENESS = Instrument(
    "niyama.job.lateness",
    Kind.HISTOGRAM,
    "s",
    "How long after its deadline a token came that was late",
    (TOKEN, QOS_KIND, QOS_CLASS),
    buckets=_SECONDS,
)
QUEUE_DURATION = Instrument(
    "niyama.job.queue.duration",
    Kind.HISTOGRAM,
    "s",
    "From a job's arrival in Kafka to the start of its prefill",
    (QOS_KIND, QOS_CLASS),
    buckets=_SECONDS,
)
JOBS_IN_FLIGHT = Instrument(
    "niyama.worker.jobs", Kind.GAUGE, "{job}", "Jobs that the worker has taken", (STATE, TOPIC)
)
JOB_RETRIES = Instrument(
    "niyama.job.retries",
    Kind.COUNTER,
    "{job}",
    "Jobs that were taken again after an attempt was lost with its worker",
)

# ---- scheduling

RELEGATIONS = Instrument(
    "niyama.scheduler.relegations",
    Kind.COUNTER,
    "{decision}",
    "Jobs that were relegated: served when capacity is left",
    (REASON, IMPORTANCE, QOS_KIND),
)
DECISIONS = Instrument(
    "niyama.scheduler.decisions",
    Kind.COUNTER,
    "{decision}",
    "What the scheduler decided about jobs",
    (DECISION,),
)

PRESSURE = Instrument(
    "niyama.scheduler.pressure",
    Kind.GAUGE,
    "1",
    "The most that is due by some time, over what can be done by then: above 1, not all is met",
)
QUEUED_REQUESTS = Instrument(
    "niyama.scheduler.requests",
    Kind.GAUGE,
    "{request}",
    "Requests in the scheduler: waiting, with their prompt in progress, overdue, generating",
    (REQUEST_STATE,),
)
BACKLOG = Instrument(
    "niyama.scheduler.backlog",
    Kind.GAUGE,
    "s",
    "How long the prompts and answers that the scheduler has take, whenever they are due",
    (QOS_KIND,),
)
PREDICTED_TTFT = Instrument(
    "niyama.scheduler.predicted_ttft",
    Kind.GAUGE,
    "s",
    "Time to the first token of a chat that arrived now",
    (PROMPT_TOKENS,),
)
KV_USED = Instrument(
    "niyama.scheduler.kv.used",
    Kind.GAUGE,
    "{token}",
    "KV in use, without what the prefix cache could give up",
)
KV_SIZE = Instrument("niyama.scheduler.kv.size", Kind.GAUGE, "{token}", "KV that there is")
THROUGHPUT = Instrument(
    "niyama.scheduler.throughput",
    Kind.GAUGE,
    "{token}/s",
    "Tokens per second, over the last second or so",
    (TOKEN_TYPE,),
)
ITERATION_PREDICTED = Instrument(
    "niyama.scheduler.iteration.predicted",
    Kind.HISTOGRAM,
    "s",
    "How long iterations were planned to take",
    buckets=ITERATION_SECONDS,
)
ITERATION_DURATION = Instrument(
    "niyama.scheduler.iteration.duration",
    Kind.HISTOGRAM,
    "s",
    "How long they took",
    buckets=ITERATION_SECONDS,
)
CHUNK_TOKENS = Instrument(
    "niyama.scheduler.chunk",
    Kind.HISTOGRAM,
    "{token}",
    "Tokens of prompts in iterations that had any",
    buckets=CHUNK_SIZES,
)

# ---- Kafka

CONSUMED_MESSAGES = Instrument(
    "messaging.client.consumed.messages",
    Kind.COUNTER,
    "{message}",
    "Records that were read",
    (TOPIC, GROUP),
    {**_KAFKA, names.MESSAGING_OPERATION_NAME: "poll"},
)
SENT_MESSAGES = Instrument(
    "messaging.client.sent.messages",
    Kind.COUNTER,
    "{message}",
    "Records that Kafka has acknowledged",
    (TOPIC,),
    {**_KAFKA, names.MESSAGING_OPERATION_NAME: names.SEND},
)
PROCESS_DURATION = Instrument(
    "messaging.process.duration",
    Kind.HISTOGRAM,
    "s",
    "From when a job's record was taken until its end was acknowledged",
    (TOPIC, GROUP, ERROR),
    {**_KAFKA, names.MESSAGING_OPERATION_NAME: names.PROCESS},
    _SECONDS,
)
WATERMARK_LAG = Instrument(
    "niyama.worker.watermark_lag",
    Kind.GAUGE,
    "{record}",
    "Records from the oldest unfinished one to the last that was read",
    (TOPIC,),
)
PARTITIONS = Instrument(
    "niyama.worker.partitions", Kind.GAUGE, "{partition}", "Partitions owned", (TOPIC,)
)
UNSENT = Instrument(
    "niyama.worker.unsent", Kind.GAUGE, "By", "Records that wait to be sent", (TOPIC,)
)
DROPPED_MESSAGES = Instrument(
    "niyama.messages.dropped",
    Kind.COUNTER,
    "{message}",
    "Best-effort records that Kafka did not take in time",
    (TOPIC,),
)
DEAD_LETTERS = Instrument(
    "niyama.dead_letters",
    Kind.COUNTER,
    "{message}",
    "Records that could not be used, by the code of what is wrong with them",
    (ERROR,),
)

OPERATION_DURATION = Instrument(
    "messaging.client.operation.duration",
    Kind.HISTOGRAM,
    "s",
    "How long Kafka took to acknowledge a job that was submitted over HTTP",
    (TOPIC, ERROR),
    {**_KAFKA, names.MESSAGING_OPERATION_NAME: names.SEND},
    _SECONDS,
)

# ---- the ledger and the API

HTTP_DURATION = Instrument(
    "http.server.request.duration",
    Kind.HISTOGRAM,
    "s",
    "Requests to the API; those that follow a job last as long as they wait",
    (HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
JOBS_ENDED = Instrument(
    "niyama.ledger.ended_jobs",
    Kind.COUNTER,
    "{job}",
    "Jobs whose end this gateway recorded, each once",
    (STATUS,),
)
DUPLICATE_ENDINGS = Instrument(
    "niyama.ledger.duplicate_endings",
    Kind.COUNTER,
    "{event}",
    "Terminal events of jobs that had ended before",
)
LEDGER_LAG = Instrument(
    "niyama.ledger.lag",
    Kind.GAUGE,
    "{record}",
    "Records in this gateway's partitions that the ledger has not read",
    (TOPIC,),
)
LEDGER_WRITE_DURATION = Instrument(
    "niyama.ledger.write.duration",
    Kind.HISTOGRAM,
    "s",
    "How long it took to decode the records of a poll and to write them to Postgres",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
OPEN_JOBS = Instrument(
    "niyama.ledger.open_jobs",
    Kind.GAUGE,
    "{job}",
    "Jobs in the ledger that have not ended; the same on every gateway, 100,000 at most",
)
OVERDUE_JOBS = Instrument(
    "niyama.ledger.overdue_jobs",
    Kind.GAUGE,
    "{job}",
    "Open jobs whose deadline has passed; likewise",
)
REPLIES_PENDING = Instrument(
    "niyama.replies.pending", Kind.GAUGE, "{reply}", "Replies that wait to be sent; likewise"
)
REPLIES_UNDELIVERABLE = Instrument(
    "niyama.replies.undeliverable",
    Kind.GAUGE,
    "{reply}",
    "Replies that were given up, see `niyama replies`; likewise",
)

# ---- telemetry itself

FAILED_EXPORTS = Instrument(
    "niyama.telemetry.failed_exports",
    Kind.COUNTER,
    "{export}",
    "Batches that the OpenTelemetry collector did not take",
    (SIGNAL,),
)
DROPPED_SPANS = Instrument(
    "niyama.telemetry.dropped_spans",
    Kind.COUNTER,
    "{span}",
    "Spans that were dropped because too many waited for the collector",
)
TRACES_KEPT = Instrument(
    "niyama.telemetry.traces",
    Kind.COUNTER,
    "{trace}",
    "Traces of jobs that ended and whose trace was to be kept: kept, or dropped because there were "
    "too many",
    (TRACE_FATE,),
)
