"""The vocabulary of a tenant, as alignment and refinement use it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from db import vocabulary
from speech.text.vocabulary import Term, Vocabulary


def of_tenant(session: Session, tenant: str) -> Vocabulary:
    return Vocabulary(
        [Term(row.term, tuple(row.sounds_like), row.language) for row in vocabulary.accepted(session, tenant)]
    )
