"""What a gateway measures."""

from niyama.telemetry.instrument import Instrument, Kind
from niyama.telemetry.instruments.attributes import (
    ERROR,
    HTTP_METHOD,
    HTTP_ROUTE,
    HTTP_STATUS,
    KAFKA,
    POOL,
    SECONDS,
    STATUS,
    TOPIC,
    WORKER_STATE,
)
from niyama.tracing import names

OPERATION_DURATION = Instrument(
    "messaging.client.operation.duration",
    Kind.HISTOGRAM,
    "s",
    "How long Kafka took to acknowledge a job that was submitted over HTTP",
    (TOPIC, ERROR),
    {**KAFKA, names.MESSAGING_OPERATION_NAME: names.SEND},
    SECONDS,
)
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
    "Records in this gateway's partitions that the ledger has not read; while it cannot ask Kafka, "
    "as of before",
    (TOPIC,),
)
LEDGER_READY = Instrument(
    "niyama.ledger.ready",
    Kind.GAUGE,
    "1",
    "1 while the ledger reads this gateway's partitions, 0 while it waits for Kafka or Postgres",
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
    "Jobs of the pool in the ledger that have not ended; every gateway shows the same, and counts "
    "100,000 at most",
    (POOL,),
)
OVERDUE_JOBS = Instrument(
    "niyama.ledger.overdue_jobs",
    Kind.GAUGE,
    "{job}",
    "Jobs of the pool in the ledger that have not ended, and whose deadline has passed without the "
    "token that it is for; every gateway shows the same, and counts 100,000 at most",
    (POOL,),
)
REPLIES_PENDING = Instrument(
    "niyama.replies.pending",
    Kind.GAUGE,
    "{reply}",
    "Replies to the pool's jobs that wait to be sent; every gateway shows the same, and counts "
    "100,000 at most",
    (POOL,),
)
REPLIES_UNDELIVERABLE = Instrument(
    "niyama.replies.undeliverable",
    Kind.GAUGE,
    "{reply}",
    "Replies to the pool's jobs that were given up (`niyama replies` lists them); every gateway "
    "shows the same, and counts 100,000 at most",
    (POOL,),
)

# ---- pools, by their workers' load reports

POOL_WORKERS = Instrument(
    "niyama.pool.workers",
    Kind.GAUGE,
    "{worker}",
    "The pool's workers, by their load reports; one is gone that has not reported for five "
    "seconds, and after five minutes it is forgotten",
    (POOL, WORKER_STATE),
)
POOL_DEMAND = Instrument(
    "niyama.pool.demand",
    Kind.GAUGE,
    "1",
    "The mean demand of the pool's workers, by their load reports: above 1, they cannot meet every "
    "deadline",
    (POOL,),
)
POOL_LAG = Instrument(
    "niyama.pool.lag",
    Kind.GAUGE,
    "{record}",
    "Records in the pool's job topics that no worker has read, by its workers' load reports; "
    "absent while one of them does not know, or none reports",
    (POOL, TOPIC),
)
LOAD_REPORTS_LAG = Instrument(
    "niyama.load_reports.lag",
    Kind.GAUGE,
    "{record}",
    "Load reports that this gateway has not read; absent while it cannot read any",
)
LOAD_REPORTS_FOLLOWED = Instrument(
    "niyama.load_reports.followed",
    Kind.GAUGE,
    "1",
    "1 while this gateway reads load reports, 0 while it cannot, and does not know the workers",
)
