"""Longhand's client: recordings in, transcripts out."""

from longhand.client import AsyncClient, Client
from longhand.errors import (
    ApiError,
    Conflict,
    Forbidden,
    InvalidRequest,
    JobFailed,
    LonghandError,
    NotFound,
    RateLimited,
    ServerError,
    Unauthorized,
    Unreachable,
    WaitTimeout,
)
from longhand.types import Event, Hit, Job, JobOptions, Segment, Transcript, Upload

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Conflict",
    "Event",
    "Forbidden",
    "Hit",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "JobOptions",
    "LonghandError",
    "NotFound",
    "RateLimited",
    "Segment",
    "ServerError",
    "Transcript",
    "Unauthorized",
    "Unreachable",
    "Upload",
    "WaitTimeout",
]
