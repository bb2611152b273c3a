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
