"""What both gateways and workers measure."""

from niyama.telemetry.instrument import Instrument, Kind
from niyama.telemetry.instruments.attributes import ERROR, GROUP, KAFKA, SIGNAL, TOPIC
from niyama.tracing import names

CONSUMED_MESSAGES = Instrument(
    "messaging.client.consumed.messages",
    Kind.COUNTER,
    "{message}",
    "Records that were read",
    (TOPIC, GROUP),
    {**KAFKA, names.MESSAGING_OPERATION_NAME: "poll"},
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
