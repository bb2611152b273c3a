"""What a worker measures."""

from niyama.telemetry.instrument import Instrument, Kind
from niyama.telemetry.instruments.attributes import (
    DECISION,
    ERROR,
    GROUP,
    IMPORTANCE,
    KAFKA,
    MET,
    MODEL,
    OPERATION,
    PROMPT_TOKENS,
    QOS_CLASS,
    QOS_KIND,
    REASON,
    REGIME,
    REQUEST_STATE,
    SECONDS,
    STATE,
    TARGET,
    TENANT,
    TOKEN,
    TOKEN_TYPE,
    TOPIC,
    TRACE_KEPT,
)
from niyama.tracing import names

_SGLANG = {names.GEN_AI_PROVIDER_NAME: names.SGLANG}
ITERATION_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5),
)
PREDICTION_RATIOS = (
    *(0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0, 10.0),
)
CHUNK_SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384)

# ---- jobs

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
JOBS_ENDED = Instrument(
    "niyama.jobs.ended",
    Kind.COUNTER,
    "{job}",
    "Jobs that ended here, each once, and whether they completed and met all their targets; "
    "cancelled ones, which meet and miss nothing, are not counted",
    (MET, QOS_KIND, QOS_CLASS, TENANT),
)
MISSED_TARGETS = Instrument(
    "niyama.job.missed_targets",
    Kind.COUNTER,
    "{target}",
    "Targets that jobs missed which ended here",
    (TARGET, QOS_KIND, QOS_CLASS),
)
JOB_SLACK = Instrument(
    "niyama.job.slack",
    Kind.HISTOGRAM,
    "s",
    "How long before its deadline a token came that was in time",
    (TOKEN, QOS_KIND, QOS_CLASS),
    buckets=SECONDS,
)
JOB_LATENESS = Instrument(
    "niyama.job.lateness",
    Kind.HISTOGRAM,
    "s",
    "How long after its deadline a token came that was late",
    (TOKEN, QOS_KIND, QOS_CLASS),
    buckets=SECONDS,
)
QUEUE_DURATION = Instrument(
    "niyama.job.queue.duration",
    Kind.HISTOGRAM,
    "s",
    "From a job's arrival in Kafka to the start of its prefill",
    (QOS_KIND, QOS_CLASS),
    buckets=SECONDS,
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
    "Jobs that were relegated: they are served when capacity is left",
    (REASON, IMPORTANCE, QOS_KIND),
)
DECISIONS = Instrument(
    "niyama.scheduler.decisions",
    Kind.COUNTER,
    "{decision}",
    "What the scheduler decided about jobs",
    (DECISION,),
)

DEMAND = Instrument(
    "niyama.scheduler.demand",
    Kind.GAUGE,
    "1",
    "How many replicas like this one its work needs to be in time, and late work within "
    "ten seconds (of batch: ten minutes): above 1, not every deadline can be met",
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
    "How long the scheduler's work takes: prompts and expected answers, whenever they are due",
    (QOS_KIND,),
)
PREDICTED_TTFT = Instrument(
    "niyama.scheduler.predicted_ttft",
    Kind.GAUGE,
    "s",
    "Time to the first token of a chat that arrived now; absent where it would be relegated",
    (PROMPT_TOKENS,),
)
KV_USED = Instrument(
    "niyama.scheduler.kv.used",
    Kind.GAUGE,
    "{token}",
    "KV in use, without what the prefix cache could give up",
)
KV_SIZE = Instrument("niyama.scheduler.kv.size", Kind.GAUGE, "{token}", "KV cache capacity")
THROUGHPUT = Instrument(
    "niyama.scheduler.throughput",
    Kind.GAUGE,
    "{token}/s",
    "Tokens per second, over the last second or so",
    (TOKEN_TYPE,),
)
PREDICTION_RATIO = Instrument(
    "niyama.scheduler.iteration.prediction_ratio",
    Kind.HISTOGRAM,
    "1",
    "How long iterations took, over how long they were planned to take; without those that the "
    "engine ran without a plan, or at the pace of another rank",
    (REGIME,),
    buckets=PREDICTION_RATIOS,
)
ITERATION_DURATION = Instrument(
    "niyama.scheduler.iteration.duration",
    Kind.HISTOGRAM,
    "s",
    "How long iterations took, from launch to end",
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

SENT_MESSAGES = Instrument(
    "messaging.client.sent.messages",
    Kind.COUNTER,
    "{message}",
    "Records that Kafka has acknowledged",
    (TOPIC,),
    {**KAFKA, names.MESSAGING_OPERATION_NAME: names.SEND},
)
PROCESS_DURATION = Instrument(
    "messaging.process.duration",
    Kind.HISTOGRAM,
    "s",
    "From when a job's record was taken until its end was acknowledged",
    (TOPIC, GROUP, ERROR),
    {**KAFKA, names.MESSAGING_OPERATION_NAME: names.PROCESS},
    SECONDS,
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
TRACES_KEPT = Instrument(
    "niyama.telemetry.traces",
    Kind.COUNTER,
    "{trace}",
    "Traces of jobs that were worth keeping, and whether they were kept",
    (TRACE_KEPT,),
)
