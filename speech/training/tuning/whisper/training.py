"""Whisper's training: windows of speech, early stopping on held-out people, and checkpoints to go on from."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import WhisperForConditionalGeneration, get_linear_schedule_with_warmup

from speech.conversion.whisper_weights import load_model
from speech.training.tuning.loss import LossMonitor, ProgressCallback
from speech.training.tuning.request import Request, TuningError, TuningErrorCode
from speech.training.tuning.whisper.windows import WINDOW_SECONDS, Example, HeardClip, Window, Windows

LEARNING_RATE = 5e-5
TUNED_SHARE = 0.5
"""Of the weights that serve; the others are those of the model that was never tuned. (Wortsman et al., "Robust
fine-tuning of zero-shot models", 2022.) Half of what was learnt in weights is nearly all of it in words, and what
nobody corrected is written as before."""
MEANINGS = "model.decoder.embed_tokens.weight"
WARM_UP_SHARE = 0.1
"""Of all steps; afterwards the learning rate falls to nothing."""
MAX_GRADIENT_NORM = 1.0
CHECKPOINT_SECONDS = 300.0
"""Between two checkpoints: what a training that is broken off has lost at most."""
PATIENCE = 1
"""Epochs in a row that may gain nothing on the held-out people before the training ends."""
DOUBTED_NLL = 8.0
"""A word that a person wrote, and that is less probable than one in three thousand once the model has learnt how
people like the speaker sound, was not said."""
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
WINDOWS_AT_ONCE = 8
"""On a GPU. On a CPU it is one: gradients of the others are added to its own."""


@dataclass(slots=True)
class Progress:
    """Where a training is. ``lowest`` is the lowest held-out loss, ``gained_nothing`` the epochs since."""

    epoch: int = 1
    step: int = 0
    lowest: float = math.inf
    gained_nothing: int = 0
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Mean loss of a token, and the share of the text's tokens that the model has as impossible."""

    loss: float
    doubted: float


class WhisperTraining:
    def __init__(self, request: Request, report_progress: ProgressCallback) -> None:
        """Raises TuningError."""
        self._request, self._report_progress = request, report_progress
        torch.manual_seed(request.seed)
        torch.set_num_threads(request.threads)
        try:
            self.model: WhisperForConditionalGeneration = load_model(request.base).to(request.device)
            self.windows = Windows(request.base, mels=self.model.config.num_mel_bins)
            self._freeze()
            self._original = self._read_original()
        except (OSError, ValueError) as error:
            found = f"{request.base} or {request.origin or 'its origin'} does not load: {error}"
            raise TuningError(TuningErrorCode.BASE_UNUSABLE, found) from error
        self.progress = Progress()
        self.held_out: HeldOut | None = None
        """Of what serves, in the best epoch."""

    def run(self, train: Sequence[HeardClip], val: Sequence[HeardClip]) -> None:
        """Train, and leave in ``model`` what serves of the best epoch on held-out people. Raises TuningError."""
        request = self._request
        steps = max(1, math.ceil(len(self.windows.pack(train, "count")) / self._windows_in_step))
        tuned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(tuned, lr=request.learning_rate or LEARNING_RATE, weight_decay=0.0)
        schedule = get_linear_schedule_with_warmup(
            optimiser, max(1, round(WARM_UP_SHARE * steps * request.epochs)), steps * request.epochs
        )
        checkpoint = _Checkpoint(request, self.model, optimiser, schedule, (*train, *val))
        held_out_windows = self.windows.pack(val, "held out")
        if not checkpoint.restore(self.progress):
            self._report_progress({"epoch": 0, "held_out_loss": self._evaluate(held_out_windows).loss})
        while self.progress.epoch <= request.epochs and self.progress.gained_nothing < PATIENCE:
            started = time.monotonic()
            loss = self._run_epoch(
                self.windows.pack(train, str(self.progress.epoch)), optimiser, schedule, checkpoint
            )
            self.progress.losses.append(loss)
            with self._interpolated():
                held_out = self._evaluate(held_out_windows)
                if held_out.loss < self.progress.lowest:
                    self.progress.lowest, self.progress.gained_nothing = held_out.loss, 0
                    checkpoint.save_best()
                else:
                    self.progress.gained_nothing += 1
            self._report_progress(
                {
                    "epoch": self.progress.epoch,
                    "loss": loss,
                    "held_out_loss": held_out.loss,
                    "seconds": round(time.monotonic() - started, 1),
                }
            )
            self.progress.epoch, self.progress.step = self.progress.epoch + 1, 0
            checkpoint.save(self.progress)
        checkpoint.load_best()
        self.held_out = self._evaluate(held_out_windows)

    @contextmanager
    def _interpolated(self) -> Iterator[None]:
        """Within it, the model has the original's share of its weights."""
        weights = self.model.state_dict()
        with torch.no_grad():
            for name, original in self._original.items():
                weights[name].lerp_(original.to(weights[name]), 1 - TUNED_SHARE)
            yield
            for name, original in self._original.items():
                weights[name].lerp_(original.to(weights[name]), 1 - 1 / TUNED_SHARE)

    def _read_original(self) -> dict[str, torch.Tensor]:
        """The weights that are tuned, of the model that was never tuned, as its file has them.

        There are none where what is tuned comes from another one: the words' meanings tell, which no tuning
        changes. Raises OSError, ValueError.
        """
        request = self._request
        original = load_model(request.untuned).state_dict()
        weights = self.model.state_dict()
        if original.keys() != weights.keys() or not torch.equal(original[MEANINGS], weights[MEANINGS].cpu()):
            return {}
        tuned = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        return {name: original[name].half() for name in tuned}

    @property
    def _windows_in_step(self) -> int:
        return max(1, round(self._request.batch_seconds / WINDOW_SECONDS))

    def _freeze(self) -> None:
        """The words' meanings are not tuned: a few hours of speech have too few of them."""
        self.model.model.decoder.embed_tokens.requires_grad_(False)
        self.model.model.decoder.embed_positions.requires_grad_(False)
        encoder = self.model.model.encoder
        if self._request.frozen > len(encoder.layers):
            found = f"frozen is {self._request.frozen}, but the encoder has {len(encoder.layers)} blocks."
            raise TuningError(TuningErrorCode.INVALID_REQUEST, found)
        if self._request.frozen:
            for module in (encoder.conv1, encoder.conv2, *encoder.layers[: self._request.frozen]):
                module.requires_grad_(False)

    def _run_epoch(
        self, windows: Sequence[Window], optimiser: Any, schedule: Any, checkpoint: _Checkpoint
    ) -> float:
        monitor = LossMonitor(self._report_progress)
        count = self._windows_in_step
        steps = math.ceil(len(windows) / count)
        monitor.start_epoch(self.progress.epoch, steps)
        while self.progress.step < steps:
            step = self.progress.step
            # the same augmentation after a restart
            torch.manual_seed(self._request.seed + 1_000_003 * self.progress.epoch + step)
            np.random.seed(self._request.seed + 1_003 * self.progress.epoch + step)
            optimiser.zero_grad(set_to_none=True)
            monitor.add(
                self._accumulate(windows[step * count : (step + 1) * count]),
                math.log(self.model.config.vocab_size),
            )
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            self.progress.step += 1
            if self.progress.step < steps:
                checkpoint.save_if_due(self.progress)
        return monitor.finish_epoch()

    def _accumulate(self, windows: Sequence[Window]) -> float:
        """Add the gradients of a step. Returns its loss."""
        self.model.train()
        examples = [self.windows.example(window) for window in windows]
        total = sum(float(example.weights.sum()) for example in examples)
        loss = 0.0
        for batch in _batches(examples, self._at_once):
            nll, weights, _ = self._nll(batch)
            share = (nll * weights).sum() / total
            share.backward()
            loss += float(share.detach())
        return loss

    def _evaluate(self, windows: Sequence[Window]) -> HeldOut:
        self.model.eval()
        loss = weight = doubted = words = 0.0
        with torch.inference_mode():
            for batch in _batches(windows, self._at_once):
                nll, weights, targets = self._nll([self.windows.example(window) for window in batch])
                text = (weights > 0) & (targets < self.windows.text_starts())
                loss += float((nll * weights).sum())
                weight += float(weights.sum())
                doubted += float((nll[text] > DOUBTED_NLL).sum())
                words += float(text.sum())
        return HeldOut(loss / weight, doubted / max(words, 1.0))

    def _nll(self, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Negative log likelihood, weight and target of each position, (examples, positions)."""
        device = self._request.device
        longest = max(len(example.inputs) for example in examples)

        def stacked(name: str, kind: torch.dtype) -> torch.Tensor:
            rows = [getattr(example, name) for example in examples]
            padded = [np.pad(row, (0, longest - len(row))) for row in rows]
            return torch.from_numpy(np.stack(padded)).to(device, kind)

        features = torch.from_numpy(np.stack([example.features for example in examples])).to(device)
        targets, weights = stacked("targets", torch.int64), stacked("weights", torch.float32)
        with self._precision():
            logits = self.model(features, decoder_input_ids=stacked("inputs", torch.int64)).logits
        nll = cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
        return nll, weights, targets

    def _precision(self) -> AbstractContextManager[Any]:
        """bfloat16 on a GPU, and on a CPU that multiplies in it: elsewhere it would be slower than float32."""
        device = torch.device(self._request.device).type
        able = device != "cpu" or any(torch.cpu.get_capabilities().get(name) for name in BFLOAT16_INSTRUCTIONS)
        precision: AbstractContextManager[Any] = torch.autocast(device, torch.bfloat16, enabled=able)
        return precision

    @property
    def _at_once(self) -> int:
        return 1 if self._request.device == "cpu" else WINDOWS_AT_ONCE


class _Checkpoint:
    """The state of a training in its folder, for another process to go on from. A broken file is never left."""

    def __init__(
        self,
        request: Request,
        model: WhisperForConditionalGeneration,
        optimiser: Any,
        schedule: Any,
        clips: Sequence[HeardClip],
    ) -> None:
        self._folder = request.checkpoint_folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._model, self._optimiser, self._schedule = model, optimiser, schedule
        self._of = _fingerprint(request, clips)
        self._saved_at = time.monotonic()

    def restore(self, progress: Progress) -> bool:
        """Whether there was a checkpoint of the same training; the state is then its own."""
        path = self._folder / "checkpoint.pt"
        if not path.is_file():
            return False
        state = torch.load(path, weights_only=True)
        if state["of"] != self._of:
            return False
        self._model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        for name, value in state["progress"].items():
            setattr(progress, name, value)
        return True

    def save(self, progress: Progress) -> None:
        self._write(
            "checkpoint.pt",
            {
                "of": self._of,
                "model": self._model.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "schedule": self._schedule.state_dict(),
                "progress": asdict(progress),
            },
        )
        self._saved_at = time.monotonic()

    def save_if_due(self, progress: Progress) -> None:
        if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self.save(progress)

    def save_best(self) -> None:
        self._write("best.pt", self._model.state_dict())

    def load_best(self) -> None:
        self._model.load_state_dict(torch.load(self._folder / "best.pt", weights_only=True))

    def _write(self, name: str, state: Any) -> None:
        partial = self._folder / f"{name}.partial"
        torch.save(state, partial)
        partial.replace(self._folder / name)


def _fingerprint(request: Request, clips: Sequence[HeardClip]) -> str:
    """Of all that a training's steps follow from."""
    digest = hashlib.sha256()
    numbers = (request.epochs, request.learning_rate, request.batch_seconds, request.frozen, request.seed)
    digest.update(repr((numbers, request.base.name)).encode())
    for heard in clips:
        digest.update(repr((heard.clip.key, heard.clip.text, heard.clip.human, heard.seconds)).encode())
    return digest.hexdigest()


def _batches(items: Sequence[Any], count: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), count):
        yield items[start : start + count]
