"""What a process of live sessions counts, for Prometheus at ``/metrics``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

MILLISECONDS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 700, 1000, 2000, 5000)

active_sessions = Gauge("orchestrator_active_sessions", "Live sessions that are open.")
ingress_bytes = Counter("ingress_bytes", "Bytes of audio that clients sent.")
egress_events = Counter("egress_events", "Events that were sent to clients.", ["type"])
asr_inflight_sessions = Gauge("asr_inflight_sessions", "Sessions of ASR that are open.")
asr_busy_seconds = Counter("asr_busy_seconds", "Seconds that engines took.")
asr_rtf = Histogram(
    "asr_rtf",
    "Seconds of engines for a second of sound, by session.",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 2.0, 5.0),
)
asr_latency_ms = Histogram("asr_latency_ms", "From asking for a hypothesis to having it.", buckets=MILLISECONDS)
vad_latency_ms = Histogram("vad_latency_ms", "Of voice detection, for each piece.", buckets=MILLISECONDS)
dn_latency_ms = Histogram("dn_latency_ms", "Of noise suppression, for each piece.", buckets=MILLISECONDS)
lid_latency_ms = Histogram("lid_latency_ms", "Of language identification.", buckets=MILLISECONDS)
compress_latency_ms = Histogram(
    "compress_latency_ms", "Of compressing and storing a piece of a recording.", buckets=MILLISECONDS
)
pcm_to_opus_fail = Counter("pcm_to_opus_fail", "Times that the link to ASR fell back to PCM.")
event_delay_ms = Histogram("event_delay_ms", "From having an event to having sent it.", buckets=MILLISECONDS)
