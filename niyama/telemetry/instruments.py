"""Every instrument of this project, in one place: `docs/telemetry.md` is made from it.

Names under `gen_ai`, `messaging` and `http` are OpenTelemetry's semantic conventions'; what these
do not name is under `niyama`.
"""

from niyama.telemetry.instrument import Attribute, Instrument, Kind

SIGNAL = Attribute("niyama.signal", "metrics or traces")

FAILED_EXPORTS = Instrument(
    "niyama.telemetry.failed_exports",
    Kind.COUNTER,
    "{export}",
    "Batches that the OpenTelemetry collector did not take",
    (SIGNAL,),
)
