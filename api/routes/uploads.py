"""``/v1/uploads``: recordings that come piece by piece, and go on where they broke off."""

from __future__ import annotations

import uuid
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response

from api.dependencies import Services, ServicesDep, SessionDep, Tenant, needs
from api.openapi import reference
from api.problems import Problem
from api.uploads.json_body import is_json, read_json
from api.uploads.resumable import create, problems, tus
from api.uploads.resumable.append import receive
from api.uploads.resumable.complete import complete, find, keep, lock
from api.uploads.resumable.view import UploadRequest, UploadView, view
from db import uploads
from db.models import Scope, Upload

router = APIRouter(prefix="/v1/uploads", dependencies=[needs(Scope.JOBS_WRITE)], tags=["uploads"])

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
CREATION_BODY = {
    "requestBody": {
        "content": {
            "application/json": {"schema": reference(UploadRequest)},
            tus.CONTENT_TYPE: BINARY,
        }
    }
}
APPEND_BODY = {"requestBody": {"required": True, "content": {tus.CONTENT_TYPE: BINARY}}}


def upload_id_in_path(upload_id: str) -> uuid.UUID:
    try:
        return uuid.UUID(upload_id)
    except ValueError:
        raise problems.not_found(upload_id) from None


UploadId = Annotated[uuid.UUID, Depends(upload_id_in_path)]


@router.options("", status_code=204, response_class=Response)
def show_capabilities(services: ServicesDep) -> Response:
    """What of the tus protocol this server speaks."""
    return Response(status_code=204, headers=tus.capabilities(services.settings))


@router.post("", status_code=201, response_model=UploadView, openapi_extra=CREATION_BODY)
async def create_upload(request: Request, response: Response, services: ServicesDep, tenant: Tenant) -> UploadView:
    """Begin an upload: with the headers of tus, or with JSON to have URLs for its parts."""
    if is_json(request):
        wanted = await read_json(request, UploadRequest)
        make = partial(create.by_json, filename=wanted.filename, sha256=wanted.sha256, in_parts=wanted.parts)
        made = await to_thread.run_sync(make, services, tenant, wanted.bytes)
    else:
        made = await _create_by_tus(request, services, tenant)
    response.headers.update(_headers(made))
    return await to_thread.run_sync(view, services, made)


async def _create_by_tus(request: Request, services: Services, tenant: str) -> Upload:
    tus.check_version(request.headers)
    make = partial(create.by_tus, services, tenant, request.headers)
    if not (_has_pieces(request) or tus.concatenated(request.headers)):
        return await to_thread.run_sync(make)
    # before anything is created, so that a client that is refused may come again with the same
    async with _slot(services, tenant):
        made = await to_thread.run_sync(make)
        try:
            if _has_pieces(request) and made.received < made.bytes:
                made = await receive(request, services, tenant, made.id, 0)
            return await _completed(services, tenant, made)
        except Problem as problem:
            # it is there, and goes on from what it has
            problem.headers |= await to_thread.run_sync(_whereabouts, services, tenant, made.id)
            raise


def _whereabouts(services: Services, tenant: str, upload_id: uuid.UUID) -> dict[str, str]:
    with services.for_tenant(tenant)() as session:
        return _headers(find(session, tenant, upload_id))


def _headers(upload: Upload) -> dict[str, str]:
    """Where a new upload is, and how it stands."""
    return {"Location": f"/v1/uploads/{upload.id}", **tus.state(upload)}


@router.head("/{upload_id}", response_class=Response)
def show_offset(upload_id: UploadId, request: Request, session: SessionDep, tenant: Tenant) -> Response:
    """How much of the upload is there, for tus clients."""
    tus.check_version(request.headers)
    upload = find(session, tenant, upload_id)
    return Response(headers={**tus.state(upload), **tus.description(upload)})


@router.patch("/{upload_id}", status_code=204, response_class=Response, openapi_extra=APPEND_BODY)
async def append_to_upload(
    upload_id: UploadId, request: Request, services: ServicesDep, tenant: Tenant
) -> Response:
    """Add the body to the upload, at the offset that `Upload-Offset` names."""
    tus.check_version(request.headers)
    if not _has_pieces(request):
        detail = f"Send the bytes as {tus.CONTENT_TYPE}."
        raise Problem(415, "unsupported_media_type", "Unsupported media type", detail)
    offset = tus.number(request.headers, "Upload-Offset")
    return Response(
        status_code=204, headers=tus.state(await _append(request, services, tenant, upload_id, offset))
    )


@router.get("/{upload_id}", response_model=UploadView)
def show_upload(upload_id: UploadId, services: ServicesDep, tenant: Tenant) -> UploadView:
    """The state of an upload; which of its parts are there, and URLs to write them to."""
    with services.for_tenant(tenant)() as session:
        upload = find(session, tenant, upload_id)
    if upload.in_parts:
        # who asks for URLs is about to write to them
        upload = keep(services, tenant, upload_id)
    return view(services, upload)


@router.post("/{upload_id}/complete", response_model=UploadView)
async def complete_upload(upload_id: UploadId, services: ServicesDep, tenant: Tenant) -> UploadView:
    """Check that everything is there, and its hash. Takes the time that reading it takes."""
    async with _slot(services, tenant):
        upload = await to_thread.run_sync(complete, services, tenant, upload_id)
        return await to_thread.run_sync(view, services, upload)


@router.delete("/{upload_id}", status_code=204)
def delete_upload(upload_id: UploadId, request: Request, services: ServicesDep, tenant: Tenant) -> None:
    """Forget an upload that no job was made of, and what came of it."""
    tus.check_version(request.headers)
    sessions = services.for_tenant(tenant)
    with sessions.begin() as session:
        upload = lock(session, tenant, upload_id)
        if upload.used_at is not None:
            raise problems.used(upload_id)
        keys = [piece.key for piece in uploads.parts(session, upload_id)]
        session.delete(upload)
    uploads.discard(sessions, services.storage, keys)


async def _append(request: Request, services: Services, tenant: str, upload_id: uuid.UUID, offset: int) -> Upload:
    async with _slot(services, tenant):
        upload = await receive(request, services, tenant, upload_id, offset)
        return await _completed(services, tenant, upload)


def _slot(services: Services, tenant: str) -> AbstractAsyncContextManager[None]:
    """What uploads have to themselves, while their bodies arrive or are read again to be checked."""
    return services.uploads.slot(tenant, services.directory.limits(tenant).uploads_at_once)


async def _completed(services: Services, tenant: str, upload: Upload) -> Upload:
    """Complete the upload if all of it is there."""
    if upload.received < upload.bytes or upload.is_partial or upload.completed_at is not None:
        return upload
    return await to_thread.run_sync(complete, services, tenant, upload.id)


def _has_pieces(request: Request) -> bool:
    return request.headers.get("content-type", "").lower() == tus.CONTENT_TYPE
