"""Every instrument of this project: the tables of docs/metrics.md are made of it.

Names under `gen_ai`, `messaging` and `http` are those of OpenTelemetry's semantic conventions, with
the buckets that these advise; what has no convention is under `niyama`.
"""
