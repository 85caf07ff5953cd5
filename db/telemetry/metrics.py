"""The metrics of all processes but those of live sessions, which have more in ``live.metrics``.

Names are in base units. Labels take values of enums, names of engines and templates of routes: never a job, a
tenant, an address or anything else that a client sends.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from db.telemetry.tracing import exemplar

STEP_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 3600.0)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STATEMENT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
JOB_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0)
PARTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
COUNTS = (1, 2, 4, 8, 16, 32, 64)

# every process
build_info = Gauge("longhand_build_info", "1, with the version and the kind of process.", ["version", "process"])
disk_free = Gauge("longhand_disk_free_bytes", "Room where LONGHAND_DATA_DIR is.")
disk_size = Gauge("longhand_disk_size_bytes", "Size of the file system where LONGHAND_DATA_DIR is.")
certificate_expiry = Gauge(
    "longhand_certificate_expiry_timestamp_seconds",
    "When the first certificate of a file expires, where one is configured.",
    ["certificate"],
)
pool_size = Gauge("longhand_database_pool_size", "Connections to Postgres that the process may hold.")
pool_used = Gauge("longhand_database_pool_used_connections", "Of these, the ones in use.")
pool_wait = Histogram(
    "longhand_database_pool_wait_seconds", "Until there was a connection.", buckets=STATEMENT_SECONDS
)
statement_seconds = Histogram(
    "longhand_database_statement_seconds", "Of a statement in Postgres.", buckets=STATEMENT_SECONDS
)

# jobs, counted where they are committed
jobs_created = Counter("longhand_jobs_created_total", "Jobs made.", ["purpose", "priority"])
jobs_ended = Counter("longhand_jobs_ended_total", "Jobs that ended.", ["purpose", "status"])
first_draft_seconds = Histogram(
    "longhand_job_first_draft_seconds", "From the job to its first segment.", buckets=JOB_SECONDS
)
completion_seconds = Histogram(
    "longhand_job_completion_seconds", "From the job to its transcript.", buckets=JOB_SECONDS
)
completion_ratio = Histogram(
    "longhand_job_completion_ratio", "The same for a second of the recording.", buckets=RATIOS
)
chunks_degraded = Counter("longhand_chunks_degraded_total", "Chunks whose refinement was given up.")
draft_agreement = Histogram(
    "longhand_draft_agreement_ratio",
    "Likeness of the words of draft and refinement, by chunk.",
    buckets=PARTS,
)

# workers
workers = Gauge("longhand_workers", "1 for each kind of step that the process takes.", ["kind"])
worker_slots = Gauge("longhand_worker_slots", "Batches that the process runs at once.", ["kind"])
worker_busy_slots = Gauge("longhand_worker_busy_slots", "Of these, the ones under way.", ["kind"])
step_seconds = Histogram(
    "longhand_step_seconds", "From a step's claim to its end.", ["kind", "engine"], buckets=STEP_SECONDS
)
steps = Counter("longhand_steps_total", "Steps that ended, by how.", ["kind", "outcome"])
step_retries = Counter(
    "longhand_step_retries_total", "Attempts that failed and are followed by another.", ["kind"]
)
outage_attempts = Counter("longhand_outage_attempts_total", "Attempts that an outage below cost.", ["kind"])
dead_steps = Counter("longhand_dead_steps_total", "Steps that were set aside.", ["kind"])
leases_lost = Counter("longhand_leases_lost_total", "Results discarded, as the lease was lost.", ["kind"])
leases_expired = Counter("longhand_leases_expired_total", "Leases of silent workers that healing ended.", ["kind"])
COUNTED_BY_KIND = (step_retries, outage_attempts, dead_steps, leases_lost, leases_expired)
asr_rtf = Histogram("longhand_asr_rtf", "Seconds of an engine for a second of speech.", ["engine"], buckets=RATIOS)
audio_seconds = Counter("longhand_audio_seconds_total", "Seconds of audio processed.", ["kind", "engine"])
batch_chunks = Histogram("longhand_batch_chunks", "Steps claimed together.", ["kind"], buckets=COUNTS)
batch_fill = Histogram("longhand_batch_fill_ratio", "The same, of as many as could be.", ["kind"], buckets=PARTS)
model_load_seconds = Histogram(
    "longhand_model_load_seconds", "Of loading an engine.", ["engine"], buckets=STEP_SECONDS
)
healing_rounds = Counter("longhand_healing_rounds_total", "Rounds of healing, by how they ended.", ["outcome"])
healing_seconds = Histogram("longhand_healing_round_seconds", "Of a round of healing.", buckets=REQUEST_SECONDS)
deliveries = Counter(
    "longhand_webhook_deliveries_total", "Attempts to deliver, by what became of it.", ["outcome"]
)
delivery_seconds = Histogram(
    "longhand_webhook_request_seconds", "Of a request to a receiver of webhooks.", buckets=REQUEST_SECONDS
)

# the API
requests = Counter("longhand_http_requests_total", "Requests answered.", ["method", "route", "code"])
request_seconds = Histogram(
    "longhand_http_request_seconds",
    "Until the head of an answer.",
    ["method", "route"],
    buckets=REQUEST_SECONDS,
)
streams = Gauge("longhand_sse_streams", "Event streams that are open.")
replayed_events = Histogram(
    "longhand_sse_replay_events",
    "Events that a stream read from the log as it began.",
    buckets=(0, 1, 10, 100, 1000, 10_000),
)
upload_bytes = Counter("longhand_upload_bytes_total", "Bytes of recordings received.")


def observe(histogram: Histogram, value: float) -> None:
    """Observe a value, with the trace that it comes from as an example of it."""
    histogram.observe(value, exemplar())
