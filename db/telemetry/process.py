"""What every process tells of itself and of the machine it runs on."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import threading
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from cryptography import x509
from opentelemetry import trace

from db.logs import configure_logging
from db.settings import Settings
from db.telemetry import metrics

EXPORTER = "db.telemetry.otlp"
FLUSH_SECONDS = 2.0
"""That the last spans have to leave a process that ends."""


class TracesUnavailable(Exception):
    """Traces are to be sent, and what sends them is not installed. The message says what to do."""


def start_telemetry(process: str, settings: Settings) -> None:
    """Logs, metrics and traces as the settings want them, of a process of this kind, such as ``api``.

    Call it before the process connects to anything. Raises TracesUnavailable.
    """
    exporter = _load_exporter() if settings.otlp_endpoint is not None else None
    configure_logging(settings.log_format)
    metrics.build_info.labels(version("longhand"), process).set(1)
    folder = settings.data_dir.absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    metrics.disk_free.set_function(lambda: shutil.disk_usage(there).free)
    metrics.disk_size.set_function(lambda: shutil.disk_usage(there).total)
    files = {"stage": settings.stage_certificate, "stage_ca": settings.stage_ca, "s3_ca": settings.s3_ca_bundle}
    for certificate, file in files.items():
        if file is not None:
            metrics.certificate_expiry.labels(certificate).set_function(partial(first_expiry, file))
    if exporter is not None:
        exporter.start(process, f"{socket.gethostname()}:{os.getpid()}", settings)


def _load_exporter() -> ModuleType:
    """Raises TracesUnavailable."""
    try:
        return importlib.import_module(EXPORTER)
    except ModuleNotFoundError as error:
        raise TracesUnavailable(
            f"LONGHAND_OTLP_ENDPOINT is set, and {error.name} is not installed: run "
            "`pip install 'longhand[traces]'`, or unset it."
        ) from error


def flush_traces() -> None:
    """Send what spans there are, before a process ends at once. Waits no longer than ``FLUSH_SECONDS``."""
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
    if shutdown is not None:
        sending = threading.Thread(target=shutdown, name="traces", daemon=True)
        sending.start()
        sending.join(FLUSH_SECONDS)


def first_expiry(file: Path) -> float:
    """When the first certificate of a PEM file expires, in seconds since 1970; NaN if none can be read."""
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):
        return float("nan")
    return min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)
