"""Traces, by OpenTelemetry's API. Until ``db.telemetry.otlp`` exports them, a span is nothing and costs nothing.

A job keeps the context of the request that made it in its row, so its steps are spans of that trace, whoever runs
them how much later.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

PARENT = "traceparent"

tracer = trace.get_tracer("longhand")
_propagator = TraceContextTextMapPropagator()


def current_parent() -> str | None:
    """The current span as W3C's ``traceparent``, which also says if it is one of those left out; None without."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(PARENT)


def context_of(parent: str | None) -> Context:
    """What spans below that parent begin in; without one they begin a trace of their own."""
    return _propagator.extract({PARENT: parent} if parent else {}, Context())


def link_to(span: Span) -> list[Link]:
    """A link to the span, where it is one."""
    context = span.get_span_context()
    return [Link(context)] if context.is_valid else []


def trace_id() -> str | None:
    """Of the current span, in hexadecimal."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def exemplar() -> dict[str, str] | None:
    """The labels of an example for a histogram; None outside of a trace that is exported."""
    context = trace.get_current_span().get_span_context()
    if not _is_exported(context):
        return None
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }


def _is_exported(context: SpanContext) -> bool:
    return context.is_valid and bool(context.trace_flags & TraceFlags.SAMPLED)
