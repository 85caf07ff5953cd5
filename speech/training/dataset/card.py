"""The description of a training set, in the form of Hugging Face's dataset cards."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from speech.training.dataset.filters import Reason
from speech.training.dataset.paths import FRAMES_PER_SECOND

SIZE_CATEGORIES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")

REASON_TEXTS = {
    Reason.NO_CONSENT: "nobody agreed to its use for training",
    Reason.NOT_RETAINED: "its retention has ended",
    Reason.TOO_SHORT: "shorter than `min_seconds`",
    Reason.TOO_LONG: "longer than `max_seconds`",
    Reason.NO_TEXT: "no words",
    Reason.REDACTED: "personal data was left out of its text",
    Reason.LANGUAGE: "not in `languages`",
    Reason.DISAGREEMENT: "the two models differ by more than `max_disagreement`",
    Reason.UNREFINED: "not corrected by a person, and not heard by two models",
    Reason.IMPLAUSIBLE: "a correction that differs from both models by more than `max_correction`",
    Reason.UNCERTAIN: "confidence below `min_confidence`",
    Reason.REPETITION: "the same words over and over",
    Reason.SPEECH_RATE: "too few or too many words for its length",
    Reason.NOISY: "speech over noise below `min_snr`",
    Reason.CLIPPED: "more than `max_clipped` of its samples at full scale",
    Reason.DUPLICATE: "the same utterance is in already",
    Reason.REPEATED_TEXT: "the same words are in `max_repeats` times already",
    Reason.AUDIO_MISSING: "the recording could not be read",
    Reason.HELD_OUT_SPEAKER: "uncorrected speech of somebody who is in `val`",
}


PRIVACY = """\
This set holds recordings of people who agreed to their use for training. It is for internal use: do not publish \
it or pass it on. Voices identify people even without a name; `P0001` and the like stand for a person within this \
set only. Who takes their consent back is missing from later sets: delete older ones once they have served."""


def dataset_card(manifest: Mapping[str, Any]) -> str:
    """Markdown for the root of the set, from :func:`speech.training.dataset.manifest.build_manifest`.

    As README.md, its front matter also tells Hugging Face's `datasets` which files are data. Without it, that
    takes every folder and file with "train", "val" or "test" in its name for a split.
    """
    clips = sum(split["clips"] for split in manifest["splits"].values())
    return (
        "\n\n".join(
            [
                _front_matter(manifest, clips),
                f"# Training set {_escape(manifest['id'])}",
                _summary(manifest, clips),
                "## Splits",
                _table(
                    ("Split", "Clips", "Hours", "Persons"),
                    ((name, n["clips"], n["hours"], n["persons"]) for name, n in manifest["splits"].items()),
                ),
                "Nobody is in both. `val` is of people whose speech was corrected, as far as that goes.",
                _table(("Language", "Hours"), manifest["languages"].items()),
                _table(("Source", "Hours"), manifest["sources"].items()),
                _table(("Model", "Clips"), manifest["models"].items()),
                "## Selection",
                "Segments had to pass these filters; those that a person corrected need no models to agree.",
                _table(
                    ("Filter", "Value"),
                    ((f"`{name}`", _format_value(v)) for name, v in manifest["filters"].items()),
                ),
                "The texts were tidied (width, punctuation, blanks), and beyond that:",
                _table(
                    ("Step", "Done"), ((f"`{name}`", _format_value(v)) for name, v in manifest["cleaning"].items())
                ),
                "## Left out",
                _table(
                    ("Reason", "Segments", "Meaning"),
                    (
                        (f"`{name}`", count, REASON_TEXTS[Reason(name)])
                        for name, count in manifest["rejections"].items()
                    ),
                ),
                *_withdrawn(manifest),
                "## Privacy",
                PRIVACY,
                "## Use",
                _usage(manifest),
            ]
        )
        + "\n"
    )


def _front_matter(manifest: Mapping[str, Any], clips: int) -> str:
    """YAML, with values in JSON, which is valid YAML."""
    size = SIZE_CATEGORIES[min(max(len(str(clips)) - 3, 0), len(SIZE_CATEGORIES) - 1)]
    fields = {
        "pretty_name": f"Training set {manifest['id']}",
        "language": sorted(manifest["languages"]),
        "task_categories": ["automatic-speech-recognition"],
        "size_categories": [size],
        "license": "other",
        "license_name": "internal-use-only",
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": ["metadata.jsonl", "raw/**/*.flac"]}],
            }
        ],
    }
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in fields.items()), "---"])


def _summary(manifest: Mapping[str, Any], clips: int) -> str:
    hours = sum(split["hours"] for split in manifest["splits"].values())
    window = manifest["window"]
    return (
        f"{clips} clips of speech with their words, {hours:.2f} hours, as 16 kHz mono FLAC. They come from "
        f"recordings of {_escape(manifest['tenant'])} that were uploaded from {window['from']} until "
        f"{window['until']}. Exported for {manifest['date']}, at {manifest['created_at']}."
    )


def _withdrawn(manifest: Mapping[str, Any]) -> list[str]:
    if not manifest["withdrawn"]:
        return []
    return [
        "## Withdrawn",
        "These clips were erased since. `manifest.json` has their paths: remove them from copies of the sets, and "
        "from what is made of them.",
        _table(
            ("Set", "Erased at", "Clips"),
            ((each["export"], each["at"], len(each["clips"])) for each in manifest["withdrawn"]),
        ),
    ]


def _usage(manifest: Mapping[str, Any]) -> str:
    frames = math.ceil(manifest["filters"]["max_seconds"] * FRAMES_PER_SECOND)
    return f"""\
[FunASR](https://github.com/modelscope/FunASR) tunes SenseVoice from the root of this set, where the paths of its \
lists begin. Unless told otherwise, it leaves out without a word what is longer than about 20 seconds:

```shell
torchrun train_ds.py ++model=iic/SenseVoiceSmall \\
  ++train_data_set_list=train.jsonl ++valid_data_set_list=val.jsonl \\
  ++dataset_conf.max_source_length={frames} ++dataset_conf.max_token_length={2 * frames}
```

[datasets](https://huggingface.co/docs/datasets) reads both splits from one table, whose column `split` tells \
them apart; to the library all of it is `train`:

```python
from datasets import Audio, load_dataset

folder = dict(data_dir="path/to/this/folder", data_files="metadata.jsonl", split="train")
train = load_dataset("audiofolder", **folder, filters=[("split", "==", "train")])
val = load_dataset("audiofolder", **folder, filters=[("split", "==", "val")])
train = train.cast_column("audio", Audio(decode=False))  # paths in place of samples
```

`kaldi/` is for WeNet, ESPnet and what else reads Kaldi's lists; \
`asr/` has, for each recording, both models' texts beside the one that was chosen."""


def _table(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    columns = [_escape(name) for name in headings]
    body = [f"| {' | '.join(map(_escape, row))} |" for row in rows]
    rule = " | ".join("---" for _ in columns)
    return "\n".join([f"| {' | '.join(columns)} |", f"| {rule} |", *body]) if body else "None."


def _format_value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _escape(value: object) -> str:
    """Escapes HTML and Markdown in a label and puts it on one line."""
    line = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\|\[\]*])", r"\\\1", line)
