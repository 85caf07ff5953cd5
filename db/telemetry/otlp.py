"""Export of traces by OTLP over HTTP. Only a process that has somewhere to send them imports this.

It needs the extra ``traces``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, Status, TraceState
from opentelemetry.util.types import Attributes

from db.settings import Settings

BEGINNINGS = (SpanKind.SERVER, SpanKind.CONSUMER)
"""What may begin a trace: a request, or a step of a job that no request made."""

CONTENT = ("url.query", "exception.message", "exception.stacktrace")
"""Attributes that may hold a token, what somebody looks for, or what somebody said."""

ADDRESSES = ("http.url", "url.full", "http.target")
"""Of these, what stands before the query is kept."""


class Beginnings(Sampler):
    """Of what has no parent, part of the requests and steps; no poll of a queue and no round of healing."""

    def __init__(self, ratio: float) -> None:
        self._ratio = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        sampler = self._ratio if kind in BEGINNINGS else ALWAYS_OFF
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"Beginnings{{{self._ratio.rate}}}"


class ContentFreeExporter(SpanExporter):
    """Exports spans without what people said: errors by their kind alone, addresses without their queries."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_without_content(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _without_content(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_kept(span.attributes),
        events=[Event(event.name, _kept(event.attributes), event.timestamp) for event in span.events],
        links=span.links,
        kind=span.kind,
        instrumentation_scope=span.instrumentation_scope,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
    )


def _kept(attributes: Attributes) -> Attributes:
    return {
        name: str(value).partition("?")[0] if name in ADDRESSES else value
        for name, value in (attributes or {}).items()
        if name not in CONTENT
    }


def start(process: str, instance: str, settings: Settings) -> TracerProvider:
    """Have spans exported, and the libraries make some of their own."""
    provider = TracerProvider(
        sampler=ParentBased(Beginnings(settings.trace_ratio)),
        resource=Resource.create(
            {
                SERVICE_NAME: f"longhand-{process}",
                SERVICE_VERSION: version("longhand"),
                SERVICE_INSTANCE_ID: instance,
            }
        ),
    )
    endpoint = f"{(settings.otlp_endpoint or '').rstrip('/')}/v1/traces"
    exporter = OTLPSpanExporter(endpoint, headers=settings.otlp_headers)
    provider.add_span_processor(BatchSpanProcessor(ContentFreeExporter(exporter)))
    trace.set_tracer_provider(provider)
    # it knows SQLAlchemy up to 2.0 by name; the events that it listens to are the same in 2.1
    SQLAlchemyInstrumentor().instrument(skip_dep_check=True)
    RedisInstrumentor().instrument()
    BotocoreInstrumentor().instrument()  # type: ignore[no-untyped-call]
    HTTPXClientInstrumentor().instrument()
    return provider
