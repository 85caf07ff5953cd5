"""FunASR's trainer, data set and learning-rate schedule on one device.

The steps are those of ``funasr.bin.train_ds``, which only runs on CUDA.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from speech.training.tuning.data import ReadableClip, fits_ctc, write_list
from speech.training.tuning.loss import LossMonitor, ProgressCallback
from speech.training.tuning.request import Request, TuningError, TuningErrorCode
from speech.training.tuning.sensevoice.model import freeze_blocks, load_base_model, save_checkpoint, set_tag_ids

UNLIMITED = 10**9
"""Disables FunASR's limits on lengths, and its logging, saving and validation within an epoch."""
LEARNING_RATE = 2e-5
WARM_UP_SHARE = 0.1
"""Of all steps; afterwards the learning rate falls with the square root of the steps."""
MAX_WARM_UP_STEPS = 500
MAX_GRADIENT_NORM = 5.0


@dataclass(slots=True)
class Training:
    """``losses`` are the mean training losses of the epochs so far, ``unfit`` counts unusable clips."""

    request: Request
    report_progress: ProgressCallback
    losses: list[float] = field(default_factory=list)
    unfit: int = 0

    def run(self, train: Sequence[ReadableClip], val: Sequence[ReadableClip]) -> None:
        """Train, and save the epoch with the lowest held-out loss. Raises TuningError."""
        request = self.request
        auto = load_base_model(request)
        model, tokenizer, frontend = auto.model, auto.kwargs["tokenizer"], auto.kwargs["frontend"]
        set_tag_ids(model, tokenizer)
        freeze_blocks(model, request.frozen)
        self._write_lists(train, val, tokenizer, frontend.lfr_n)
        trainer = importlib.import_module("funasr.train_utils.trainer_ds").Trainer(
            device=request.device,
            output_dir=str(request.work_folder / "trainer"),
            max_epoch=request.epochs,
            grad_clip=MAX_GRADIENT_NORM,
            **dict.fromkeys(("log_interval", "save_checkpoint_interval", "validate_interval"), UNLIMITED),
        )
        model = trainer.warp_model(model, device=request.device)
        data = self._data_loader(frontend, tokenizer, max(clip.frames for clip in (*train, *val)))
        monitor = LossMonitor(self.report_progress)

        def record(_model: Any, _arguments: Any, batch: dict[str, Any], output: Any) -> None:
            monitor.add(float(output[0].detach()), batch["speech"].shape[1] * math.log(model.vocab_size))

        model.register_forward_hook(record, with_kwargs=True)
        try:
            self._run_epochs(trainer, model, data, monitor)
        finally:
            trainer.close(writer=trainer.writer)

    def _write_lists(
        self, train: Sequence[ReadableClip], val: Sequence[ReadableClip], tokenizer: Any, frames_per_output: int
    ) -> None:
        """Write FunASR's lists without the clips that CTC cannot learn from. Raises TuningError."""
        lists = (
            (train, "train", TuningErrorCode.NO_TRAINING_DATA),
            (val, "val", TuningErrorCode.NO_HELD_OUT_DATA),
        )
        for clips, name, missing in lists:
            fit = [clip for clip in clips if fits_ctc(clip, tokenizer, frames_per_output)]
            self.unfit += len(clips) - len(fit)
            if not fit:
                raise TuningError(missing, f"The vocabulary cannot write any text of {name} in its time.")
            write_list(self.request.work_folder / f"{name}.jsonl", fit)

    def _data_loader(self, frontend: Any, tokenizer: Any, longest: int) -> Any:
        request = self.request
        loader = importlib.import_module("funasr.datasets.dataloader_entry").DataloaderMapStyle
        return loader(
            frontend=frontend,
            tokenizer=tokenizer,
            dataset="SenseVoiceCTCDataset",
            train_data_set_list=str(request.work_folder / "train.jsonl"),
            valid_data_set_list=str(request.work_folder / "val.jsonl"),
            dataset_conf={
                "index_ds": "IndexDSJsonl",
                "batch_sampler": "EspnetStyleBatchSampler",
                "batch_type": "length",
                # a first clip longer than a batch would make an empty batch, which the data set fills with noise
                "batch_size": max(int(request.batch_seconds * 100), longest),
                **dict.fromkeys(("max_source_length", "max_target_length", "max_token_length"), UNLIMITED),
                "num_workers": 0 if request.device == "cpu" else request.threads,
                "pin_memory": request.device != "cpu",
            },
        )

    def _run_epochs(self, trainer: Any, model: Any, data: Any, monitor: LossMonitor) -> None:
        request, lowest = self.request, math.inf
        steps = len(list(data.build_iter(0)[0].batch_sampler))
        model, optimiser, schedule = trainer.warp_optim_scheduler(
            model,
            optim="adamw",
            optim_conf={"lr": request.learning_rate or LEARNING_RATE},
            scheduler="warmuplr",
            scheduler_conf={
                "warmup_steps": min(MAX_WARM_UP_STEPS, max(1, int(WARM_UP_SHARE * steps * request.epochs)))
            },
        )
        for epoch in range(1, request.epochs + 1):
            started = time.monotonic()
            train_batches, val_batches = data.build_iter(epoch)
            monitor.start_epoch(epoch, steps)
            trainer.step_in_epoch = 0
            trainer.train_epoch(
                model=model, optim=optimiser, scheduler=schedule, dataloader_train=train_batches, epoch=epoch
            )
            self.losses.append(monitor.finish_epoch())
            monitor.start_epoch(epoch, 0)
            trainer.validate_epoch(model=model, dataloader_val=val_batches, epoch=epoch)
            loss = monitor.finish_epoch()
            if loss < lowest:
                lowest = loss
                save_checkpoint(model, request)
            seconds = round(time.monotonic() - started, 1)
            self.report_progress(
                {"epoch": epoch, "loss": self.losses[-1], "held_out_loss": loss, "seconds": seconds}
            )
