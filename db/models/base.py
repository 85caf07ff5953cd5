"""The declarative base: constraint names and column types of all tables."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    Date,
    DateTime,
    Enum,
    Float,
    MetaData,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

from db.models.enums import (
    DeliveryState,
    EventType,
    JobPurpose,
    JobStatus,
    Priority,
    ReadingKind,
    ReadingStatus,
    Role,
    SegmentSource,
    Split,
    StepKind,
    StepState,
    VersionState,
    VoiceStatus,
)

Json = dict[str, Any]


def pg_enum(enum: type[StrEnum]) -> Enum:
    name = "".join("_" + c.lower() if c.isupper() else c for c in enum.__name__).lstrip("_")
    return Enum(enum, name=name, values_callable=lambda members: [member.value for member in members])


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        date: Date,
        datetime: DateTime(timezone=True),
        float: Float(53),
        Json: JSONB,
        list[Json]: JSONB,
        uuid.UUID: Uuid,
        **{
            enum: pg_enum(enum)
            for enum in (
                *(JobStatus, JobPurpose, Priority, StepKind, StepState, Role, SegmentSource, EventType),
                *(VoiceStatus, Split, VersionState, DeliveryState, ReadingKind, ReadingStatus),
            )
        },
    }
