"""What can be wrong with a resumable upload."""

from __future__ import annotations

from collections.abc import Sequence

from api.problems import Problem
from db.models import Upload


def not_found(upload_id: object) -> Problem:
    detail = f"There is no upload {str(upload_id)!r}; it may have expired. Begin again."
    return Problem(404, "upload_not_found", "Upload not found", detail)


def other_offset(received: int) -> Problem:
    return Problem(
        409,
        "upload_offset",
        "Other offset",
        f"{received} bytes of this upload are here; go on from there.",
        headers={"Upload-Offset": str(received)},
    )


def taken_over() -> Problem:
    detail = "Another request goes on with this upload. Ask for its offset, and go on from there."
    return Problem(423, "upload_locked", "Upload locked", detail)


def too_long(size: int) -> Problem:
    detail = f"The upload was to hold {size} bytes, and this goes beyond; what fitted before may have been kept."
    return Problem(413, "upload_too_long", "Upload too long", detail)


def too_long_to_check(most: int) -> Problem:
    detail = f"A body with a checksum may hold {most} bytes; send several."
    return Problem(413, "upload_too_long", "Too long for a checksum", detail)


def incomplete(upload: Upload, missing: Sequence[int] = ()) -> Problem:
    """``missing``: numbers of parts."""
    if missing:
        some = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        detail = f"Parts {some} are missing, or have another size than planned; write them, and complete again."
    elif upload.received < upload.bytes:
        detail = f"{upload.received} of {upload.bytes} bytes are here; send the rest."
    else:
        detail = f"It is yet to be checked; POST /v1/uploads/{upload.id}/complete."
    return Problem(409, "upload_incomplete", "Upload incomplete", detail, missing=[*missing])


def is_partial() -> Problem:
    detail = "This upload is to be concatenated with others; only the result can be used."
    return Problem(409, "upload_is_partial", "Upload is partial", detail)


def used(upload_id: object) -> Problem:
    detail = (
        f"Of upload {upload_id} job {upload_id} was made already, with other options or to be deleted since; an "
        "upload makes one job."
    )
    return Problem(409, "upload_used", "Upload used", detail)


def other_digest(found: str) -> Problem:
    return Problem(
        422,
        "sha256_mismatch",
        "SHA-256 differs",
        f"What arrived has the SHA-256 {found}, which is not what was announced. Send the parts that are wrong "
        "again, or begin again.",
    )


def too_many(most: int) -> Problem:
    return Problem(
        429,
        "too_many_uploads",
        "Too many uploads",
        f"{most} uploads of this tenant are unfinished or unused. Make jobs of them, or delete them.",
        headers={"Retry-After": "60"},
    )
