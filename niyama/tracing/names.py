"""Names of spans and attributes, each said once.

Those of `messaging.*`, `gen_ai.*` and `error.*` are OpenTelemetry's semantic conventions for
messaging, Kafka and generative AI, whose status is Development: a test compares them with
`opentelemetry-semantic-conventions`. For what has no convention there is `niyama.*`.
"""

from typing import Final

SCOPE: Final = "niyama"
"""The instrumentation scope of all spans here."""

# ---- messaging

MESSAGING_SYSTEM: Final = "messaging.system"
KAFKA: Final = "kafka"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
SEND: Final = "send"
PROCESS: Final = "process"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_DESTINATION_PARTITION_ID: Final = "messaging.destination.partition.id"
"""A string, although Kafka has numbers."""
MESSAGING_CONSUMER_GROUP_NAME: Final = "messaging.consumer.group.name"
MESSAGING_KAFKA_OFFSET: Final = "messaging.kafka.offset"
MESSAGING_MESSAGE_BODY_SIZE: Final = "messaging.message.body.size"
MESSAGING_MESSAGE_CONVERSATION_ID: Final = "messaging.message.conversation_id"
"""The job's id: the same in everything that is sent about it."""

# ---- generation

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
CHAT: Final = "chat"
TEXT_COMPLETION: Final = "text_completion"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
SGLANG: Final = "sglang"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"

ERROR_TYPE: Final = "error.type"

# ---- Niyama's own; seconds where a name does not say otherwise

ADMISSION: Final = "admission"
"""Span: from the record's reading until the engine has the request, checked and tokenized."""
QUEUE: Final = "queue"
"""Span: from there until the first chunk of its prompt runs."""
PREFILL: Final = "prefill"
"""Span: from there until the first token is computed."""
PREFILL_CHUNK: Final = "prefill chunk"
"""Span: one iteration that computed a part of the prompt."""
PARKED: Final = "parked"
"""Span: the prefill was paused for a more urgent one."""
DECODE: Final = "decode"
"""Span: from the first token's computation until the last token was shown."""

JOB_ATTEMPT: Final = "niyama.job.attempt"
JOB_ARRIVED_AT: Final = "niyama.job.arrived_at"
"""RFC 3339; what a job's deadlines count from."""
JOB_DEADLINE_AT: Final = "niyama.job.deadline_at"
QOS_KIND: Final = "niyama.qos.kind"
IMPORTANCE: Final = "niyama.importance"
TENANT: Final = "niyama.tenant"
JOB_OUTCOME: Final = "niyama.job.outcome"
"""The type of the job's last event."""
KEPT_BECAUSE: Final = "niyama.trace.kept_because"
"""`sampled`, or what about the outcome made the worker keep the trace."""
TIME: Final = "niyama.time"
"""Prefix: where the job's time went, as in `schemas.times`; such as
`niyama.time.until_first_token.queue`."""
TOPIC_WAIT: Final = "niyama.topic_wait"
"""From the job's arrival until a worker read its record."""
SLACK: Final = "niyama.slack"
"""Until the deadline, at the time of an event or at the end of a span; negative after it."""
LARGEST_GAP: Final = "niyama.largest_gap"
"""Between two tokens."""
REASON: Final = "niyama.reason"
"""Why the scheduler decided so."""
FORECAST_QUEUE_WAIT: Final = "niyama.forecast.queue_wait"
FORECAST_SLACK: Final = "niyama.forecast.slack"
"""From the token that is forecast to the deadline; negative: it will be missed."""
ITERATION: Final = "niyama.iteration"
"""The number of an iteration, counted by the scheduler's process."""
ITERATION_PREDICTED: Final = "niyama.iteration.predicted"
"""How long it was to take."""
CHUNK_TOKENS: Final = "niyama.chunk.tokens"
CHUNKS_LEFT_OUT: Final = "niyama.chunks.left_out"
EVENTS_LEFT_OUT: Final = "niyama.events.left_out"
