"""What a language model makes of a finished transcript: summaries, answers to questions, translations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import CurrentJob, SessionDep, needs
from api.editing import Editor, EditorDep
from api.options import check_reader
from api.problems import Problem
from api.schemas import JobError, KnownLanguage, Label, SummaryRequest
from api.text import Text
from db import readings
from db.models import Job, JobStatus, Reading, ReadingKind, ReadingStatus, Scope, Template

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["readings"])
READ, WRITE = needs(Scope.JOBS_READ), needs(Scope.JOBS_WRITE)

RETRY_SECONDS = 30

Number = Annotated[int, Path(ge=1, lt=2**31)]


class QuestionRequest(BaseModel):
    """What is to be found in the transcript."""

    model_config = ConfigDict(extra="forbid")

    question: Text
    language: KnownLanguage | None = Field(None, description="Of the answer; else the transcript's.")
    model: Label | None = Field(None, description="A language model of the server; else its first.")


class TranslationRequest(BaseModel):
    """Into which language the transcript is translated, segment by segment."""

    model_config = ConfigDict(extra="forbid")

    language: KnownLanguage
    model: Label | None = Field(None, description="A language model of the server; else its first.")


class StatementView(BaseModel):
    """A sentence, and what it rests on."""

    text: str
    segments: list[int] = Field(description="Indexes of the segments that it cites; never none.")
    start: float = Field(description="Where the first of them begins, in seconds.")


class SummaryContent(BaseModel):
    title: StatementView | None
    summary: list[StatementView]
    chapters: list[StatementView] = Field(description="Their titles, in order; each lasts until the next begins.")
    actions: list[StatementView] = Field(description="What somebody promised, or was asked to do.")


class AnswerContent(BaseModel):
    sentences: list[StatementView] = Field(description="Empty where the transcript has no answer.")


class TranslatedSegment(BaseModel):
    index: int
    version: int = Field(description="Of the segment when it was translated.")
    text: str


class TranslationContent(BaseModel):
    segments: list[TranslatedSegment] = Field(
        description="Those that the model translated; `GET …/transcript?language=` has the whole in any format."
    )


class ReadingView(BaseModel):
    """What a language model made of a transcript, or is to make."""

    number: int
    kind: ReadingKind
    status: ReadingStatus
    created_at: datetime
    ended_at: datetime | None
    request: dict[str, Any] = Field(description="What was asked for.")
    stale: bool = Field(description="The transcript was changed since it was read.")
    model: str | None
    tokens: dict[str, int] = Field(description="`prompt` and `completion`, where the model's server counts them.")
    error: JobError | None

    @classmethod
    def of(cls, row: Reading, job: Job, **more: Any) -> Self:
        return cls(
            number=row.number,
            kind=row.kind,
            status=row.status,
            created_at=row.created_at,
            ended_at=row.ended_at,
            request=row.request,
            stale=row.status == ReadingStatus.COMPLETED and row.corrected_at != job.corrected_at,
            model=row.model,
            tokens=row.tokens,
            error=JobError.of(row),
            **more,
        )


class ReadingWithContent(ReadingView):
    content: SummaryContent | AnswerContent | TranslationContent | None

    @classmethod
    def of(cls, row: Reading, job: Job, **more: Any) -> Self:
        content = CONTENT[row.kind].model_validate(row.content) if row.content is not None else None
        return super().of(row, job, content=content, **more)


CONTENT: dict[ReadingKind, type[SummaryContent | AnswerContent | TranslationContent]] = {
    ReadingKind.SUMMARY: SummaryContent,
    ReadingKind.ANSWER: AnswerContent,
    ReadingKind.TRANSLATION: TranslationContent,
}


class ReadingList(BaseModel):
    data: list[ReadingView]


@router.post("/summaries", status_code=202, response_model=ReadingView, dependencies=[WRITE])
def summarise_transcript(
    job_id: str, request: SummaryRequest, response: Response, editor: EditorDep
) -> ReadingView:
    """Have a finished transcript summarised: title, summary, chapters, action items. `summary.completed` tells it.

    Every sentence cites segments that exist; a sentence for which the model could not do so is left out.
    """
    return _start(editor, response, job_id, ReadingKind.SUMMARY, request)


@router.post("/questions", status_code=202, response_model=ReadingView, dependencies=[WRITE])
def ask_question(job_id: str, request: QuestionRequest, response: Response, editor: EditorDep) -> ReadingView:
    """Ask about a finished transcript. `answer.completed` tells when the answer is there."""
    return _start(editor, response, job_id, ReadingKind.ANSWER, request)


@router.post("/translations", status_code=202, response_model=ReadingView, dependencies=[WRITE])
def translate_transcript(
    job_id: str, request: TranslationRequest, response: Response, editor: EditorDep
) -> ReadingView:
    """Have a finished transcript translated; what has not changed since an earlier translation is kept.

    `translation.completed` tells when `GET …/transcript?language=` has it.
    """
    return _start(editor, response, job_id, ReadingKind.TRANSLATION, request)


def _start(
    editor: Editor,
    response: Response,
    job_id: str,
    kind: ReadingKind,
    request: SummaryRequest | QuestionRequest | TranslationRequest,
) -> ReadingView:
    given = request.model_dump(mode="json", exclude_none=True)
    with editor.lock(job_id) as tx:
        check_reader(editor.services.endpoints, request.model)
        if tx.job.status != JobStatus.COMPLETED:
            detail = f"Job {tx.job.id} is {tx.job.status}; a language model reads finished transcripts."
            raise Problem(409, "transcript_not_finished", "Transcript not finished", detail)
        if (name := given.get("template")) is not None:
            _check_template(tx.session.get(Template, (tx.job.tenant, name)), name)
        if len(readings.of_job(tx.session, tx.job.id)) >= readings.MOST_OF_A_JOB:
            detail = f"Job {tx.job.id} has {readings.MOST_OF_A_JOB} readings; delete some first."
            raise Problem(409, "too_many_readings", "Too many readings", detail)
        if (waiting := readings.waiting(tx.session, tx.job.tenant)) >= readings.MOST_WAITING:
            raise _too_many_waiting(waiting)
        reading = readings.start(tx, kind, given)
        response.headers["Location"] = f"/v1/jobs/{tx.job.id}/readings/{reading.number}"
        return ReadingView.of(reading, tx.job)


def _too_many_waiting(count: int) -> Problem:
    detail = f"{count} readings of this tenant are yet to be made; come back when one is done, or delete one."
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return Problem(429, "too_many_readings_waiting", "Too many readings waiting", detail, headers)


def _check_template(template: Template | None, name: str) -> None:
    """Raises Problem for one that is not there."""
    if template is None:
        detail = f"There is no template {name!r}; `GET /v1/templates` lists them."
        raise Problem(404, "template_not_found", "Template not found", detail)


@router.get("/readings", response_model=ReadingList, dependencies=[READ])
def list_readings(job: CurrentJob, session: SessionDep, kind: ReadingKind | None = None) -> ReadingList:
    """Summaries, answers and translations of a transcript, the newest first; without their content."""
    return ReadingList(data=[ReadingView.of(row, job) for row in readings.of_job(session, job.id, kind)])


@router.get("/readings/{number}", response_model=ReadingWithContent, dependencies=[READ])
def show_reading(job: CurrentJob, session: SessionDep, number: Number) -> ReadingWithContent:
    """One of them, with its content. Its `status` says whether it is made yet."""
    row = session.get(Reading, (job.id, number))
    if row is None:
        raise _not_found(job, number)
    return ReadingWithContent.of(row, job)


@router.delete("/readings/{number}", status_code=204, dependencies=[WRITE])
def delete_reading(job_id: str, editor: EditorDep, number: Number) -> None:
    """Remove one of them, also while it is made."""
    with editor.lock(job_id) as tx:
        if not readings.remove(tx.session, tx.job.id, number):
            raise _not_found(tx.job, number)


def _not_found(job: Job, number: int) -> Problem:
    detail = f"Job {job.id} has no reading {number}; `GET /v1/jobs/{job.id}/readings` lists them."
    return Problem(404, "reading_not_found", "Reading not found", detail)
