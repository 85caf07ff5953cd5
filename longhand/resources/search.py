"""Search: words in all transcripts."""

from __future__ import annotations

from collections.abc import AsyncIterator

from longhand.operations import Resource, TransportT, stream
from longhand.types import Hit


class Search(Resource[TransportT]):
    @stream
    def __call__(
        self,
        query: str,
        *,
        speaker: str | None = None,
        first: str | None = None,
        last: str | None = None,
        source: str | None = None,
        language: str | None = None,
        tag: str | None = None,
        collection: str | None = None,
        meaning: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Hit]:
        """Segments with all of these words, best first: ``budget "a phrase" begin* -without``.

        ``speaker``: a name, or a label of a recording. ``first`` and ``last``: days in UTC, both included, on
        which the recording was handed in. ``collection``: its id. ``meaning``: segments in English that mean much
        the same as the query, a question or a sentence, in whatever words.
        """
        params = {
            **{"q": query, "speaker": speaker, "from": first, "to": last},
            **{"source": source, "language": language, "tag": tag, "collection": collection},
            **({"mode": "meaning"} if meaning else {}),
        }
        return self._api.pages("/v1/search", limit=limit, params=params)
