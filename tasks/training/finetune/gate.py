"""Whether a tuned model may be tried on people's recordings, by the trainer's measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_CHANCE = 0.05
"""That the gain on the held-out clips is none."""
MAX_GENERAL_LOSS = 0.005
"""In the error rate on general speech."""
MAX_DOUBTED = 0.06
"""Share of the words of the held-out texts that the tuned model has as impossible: they are not what was said.

Of right texts of learners with strong accents it is 0.04 even before a tuning, where a tenth of the words is wrong
0.13; a model that has learnt to expect wrong words anywhere would still leave 0.07.
"""


def reject(metrics: Mapping[str, Any]) -> str | None:
    """Why it may not, in a sentence.

    On the held-out clips it must beat its base, and the model that was never tuned by more than chance: a little
    more of what was learnt before cannot be told from chance on few clips, and is tried. On general speech it may
    lose nothing, and the texts that it learnt must be what was said. What users saw of these clips is no bar: it
    was heard in whole recordings, with what stands around, and no model comes near to it on what is cut from them.
    """
    cer, gate = metrics["cer"], metrics["gate"]
    # first: texts that were not said make all that is measured on them small, too
    if (doubted := gate.get("doubted")) is not None and doubted > MAX_DOUBTED:
        return f"{doubted:.0%} of the words of the held-out texts cannot be heard: see who corrected them."
    base, exported = cer["base"], cer["export"]
    if base is None or exported is None or exported >= base:
        return f"Its character error rate on the held-out clips is {exported}, and {base} without it."
    if gate["chance"] > MAX_CHANCE:
        return f"Its gain on the held-out clips may be chance: none in {gate['chance']:.0%} of resamples."
    # without the key, no general speech was given to measure on
    if (general := gate.get("general")) is not None:
        origin, export = general.get("origin"), general.get("export")
        if origin is None or export is None:
            return "Nothing could be measured of the recordings of general speech: see LONGHAND_FINETUNE_GENERAL."
        if export > origin + MAX_GENERAL_LOSS:
            return f"Its error rate on general speech is {export:.3f}, and {origin:.3f} untuned."
    return None
