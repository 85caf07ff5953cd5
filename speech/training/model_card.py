"""The model card of a tuned model: what it was made of, and the figures that it was released or rejected by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

CARD_FILE = "README.md"


def model_card(
    role: str, engine: str, base: str, seconds: float, metrics: Mapping[str, Any], rejection: str | None
) -> str:
    """Markdown. ``seconds`` of speech were trained and measured on."""
    return "\n".join(_lines(role, engine, base, seconds, metrics, rejection)) + "\n"


def _lines(
    role: str, engine: str, base: str, seconds: float, metrics: Mapping[str, Any], rejection: str | None
) -> Iterator[str]:
    clips, gate = metrics["clips"], metrics["gate"]
    yield f"# A tuned {engine} ({role})"
    yield ""
    yield f"Tuned from {base} on {seconds / 3600:.2f} hours of a tenant's speech: {clips['train']} clips, and"
    yield f"{clips['val']} of people who are measured on alone. It belongs to that tenant."
    yield ""
    yield f"{rejection or 'It passed the gate, and is tried.'}"
    yield ""
    yield "| on held-out people | characters wrong | words wrong |"
    yield "|---|---|---|"
    for name, rate in metrics["cer"].items():
        yield f"| {name} | {_rate(rate)} | {_rate((metrics['wer'] or {}).get(name))} |"
    yield ""
    yield f"- the gain over the untuned model is none in {gate['chance']:.1%} of resamples of these clips"
    if "doubted" in gate:
        yield f"- {gate['doubted']:.1%} of the words of their texts are impossible to the tuned model"
    if general := gate.get("general"):
        yield f"- general speech, {general['clips']} recordings: {_rate(general.get('origin'))} untuned, "
        yield f"  {_rate(general.get('export'))} tuned"
    else:
        yield "- general speech was not measured: LONGHAND_FINETUNE_GENERAL is not set"
    yield f"- parity of the export: {metrics['parity']['finding']}"
    yield f"- training losses by epoch: {', '.join(f'{loss:.3g}' for loss in metrics['losses'])}"
    yield f"- {metrics['seconds'] / 60:.1f} minutes of tuning"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3f}"
