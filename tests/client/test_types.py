"""What the client says about answers, against what the server says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

import api.schemas
from api.routes import (
    audit,
    bulk,
    collections,
    erasures,
    exports,
    finetunes,
    keys,
    links,
    model_versions,
    queues,
    readings,
    saved_searches,
    search,
    templates,
    tenants,
    tokens,
    usage,
    vocabulary,
    voices,
    webhooks,
)
from api.uploads.resumable import view
from longhand import types
from speech.text.formats import Format, render
from speech.text.transcript import Transcript
from speech.text.words import Segment, Source, Word


@pytest.mark.parametrize(
    ("said", "model"),
    [
        (types.JobOptions, api.schemas.JobOptions),
        (types.Job, api.schemas.JobView),
        (types.Audio, api.schemas.Audio),
        (types.Progress, api.schemas.Progress),
        (types.Failure, api.schemas.JobError),
        (types.Urls, api.schemas.Urls),
        (types.BulkResult, bulk.BulkResult),
        (types.JobFilter, bulk.JobFilter),
        (types.Voice, voices.VoiceView),
        (types.Heard, voices.HeardView),
        (types.Export, exports.ExportView),
        (types.FineTune, finetunes.FineTuneView),
        (types.Version, model_versions.VersionView),
        (types.VersionRecord, model_versions.Record),
        (types.Key, keys.KeyView),
        (types.NewKey, keys.NewKey),
        (types.Token, tokens.Token),
        (types.Tenant, tenants.TenantView),
        (types.Quota, tenants.QuotaView),
        (types.UsageReport, usage.UsageReport),
        (types.UsageRow, usage.UsageRow),
        (types.QueueReport, queues.QueuesView),
        (types.Queue, queues.QueueView),
        (types.QueueKind, queues.KindView),
        (types.AuditEntry, audit.AuditEntryView),
        (types.Erasure, erasures.ErasureView),
        (types.Webhook, webhooks.WebhookView),
        (types.NewWebhook, webhooks.NewWebhook),
        (types.Delivery, webhooks.DeliveryView),
        (types.Attempt, webhooks.AttemptView),
        (types.SummaryRequest, api.schemas.SummaryRequest),
        (types.Reading, readings.ReadingView),
        (types.ReadingWithContent, readings.ReadingWithContent),
        (types.Statement, readings.StatementView),
        (types.Template, templates.TemplateView),
        (types.Term, vocabulary.TermView),
        (types.Proposal, vocabulary.ProposalView),
        (types.Upload, view.UploadView),
        (types.Part, view.PartView),
        (types.Hit, search.HitView),
        (types.JobChange, api.schemas.JobChange),
        (types.Collection, collections.CollectionView),
        (types.SavedSearch, saved_searches.SavedSearchView),
        (types.Link, links.LinkView),
        (types.NewLink, links.NewLink),
    ],
    ids=lambda given: given.__name__,
)
def test_the_client_knows_every_field(said: Any, model: type[BaseModel]) -> None:
    fields = {field.serialization_alias or name for name, field in model.model_fields.items()}
    assert set(said.__annotations__) == fields


def test_the_client_knows_every_field_of_a_transcript() -> None:
    assert keys_of(types.Word) == {*Word("a", 0, 1, 1, glued=True).to_json()}
    segment = Segment(0, 0, 0.0, 1.0, "a", 1.0, Source.DRAFT, provisional=True)
    assert keys_of(types.Segment) == {*segment.to_json()}
    transcript = Transcript("1", "completed", "en", 1.0, (segment,))
    assert keys_of(types.Transcript) == {*json.loads(render(transcript, Format.JSON))}


def keys_of(said: Any) -> set[str]:
    annotations: Mapping[str, object] = said.__annotations__
    return {*annotations}
