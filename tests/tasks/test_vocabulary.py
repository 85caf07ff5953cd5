from __future__ import annotations

from db import transcripts
from db.models import VocabularyTerm
from speech.engines import Utterance
from tests.tasks.pipeline import MakeRuntime, recording, run_until_done, submit


def test_terms_are_hotwords_where_a_draft_may_mean_them_and_stand_where_nobody_was_sure(
    make_runtime: MakeRuntime,
) -> None:
    told: list[tuple[str, ...]] = []

    def refine(utterance: Utterance) -> str:
        told.append(utterance.hotwords)
        return "we met mister dash wood"

    runtime = make_runtime(draft=lambda _: "we met mister dashwud", refine=refine)
    with runtime.sessions.begin() as session:
        for tenant, term, accepted in (
            ("default", "Dashwood", True),
            ("default", "Kubernetes", True),
            ("default", "Mistral", False),
            ("another", "Dashwud", True),
        ):
            row = VocabularyTerm(tenant=tenant, term=term, sounds_like=[], accepted=accepted)
            session.add(row)
    job_id = submit(runtime, recording("jfk.flac"), options={"hotwords": ["Ada"]})
    run_until_done(runtime)
    assert told == [("Ada", "Dashwood")]
    with runtime.sessions() as session:
        (segment,) = transcripts.final_segments(session, job_id)
    assert segment["text"] == "we met mister Dashwood"
    assert segment["source"] == "refined"
