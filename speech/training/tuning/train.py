"""FunASR's trainer, its data set and its schedule, on one device.

``funasr.bin.train_ds`` puts every model on a CUDA device; these are the steps it takes, on any.
"""

from __future__ import annotations

import importlib
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from speech.training.tuning.data import Known, fits, write_list
from speech.training.tuning.request import Code, Request, TuningError

Tell = Callable[[dict[str, Any]], None]

NEVER = 10**9
"""Steps between what the trainer would log, save or validate within an epoch."""
WARM_UP = 0.1
"""Share of the steps in which the learning rate rises; from there on it falls with their square root."""
WARM_UP_STEPS = 500
GRADIENT = 5.0
"""The largest norm of a step's gradient."""
WORSE = 2.0
"""So many times the loss of one who takes every token for equally likely: a network that is lost."""
TELL_SECONDS = 10.0


@dataclass(slots=True)
class Watch:
    """Sees every loss of an epoch: tells the caller of it, and ends a run that is lost."""

    classes: int
    tell: Tell
    epoch: int = 0
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    told: float = 0.0

    def begin(self, epoch: int, steps: int) -> None:
        self.epoch, self.steps, self.losses, self.shares = epoch, steps, [], []
        self.told = time.monotonic()

    def see(self, _model: Any, _arguments: Any, batch: dict[str, torch.Tensor], output: Any) -> None:
        """A forward hook. Raises TuningError for a loss that is no number."""
        loss = float(output[0].detach())
        if not math.isfinite(loss):
            raise diverged(f"in epoch {self.epoch} the loss is no number")
        self.losses.append(loss)
        self.shares.append(loss / (batch["speech"].shape[1] * math.log(self.classes)))
        if self.steps and time.monotonic() - self.told > TELL_SECONDS:
            self.told = time.monotonic()
            self.tell({"epoch": self.epoch, "step": len(self.losses), "steps": self.steps, "loss": self.mean()})

    def mean(self) -> float:
        return sum(self.losses) / len(self.losses)

    def end(self) -> float:
        """The mean loss. Raises TuningError where it is worse than guessing."""
        if sum(self.shares) > WORSE * len(self.shares):
            raise diverged(f"in epoch {self.epoch} the loss is {self.mean():.3g}, worse than guessing")
        return self.mean()


def diverged(finding: str) -> TuningError:
    return TuningError(Code.DIVERGED, f"The training diverged: {finding}. Try a lower learning_rate.")


@dataclass(slots=True)
class Course:
    """A training from its base on; ``losses`` are the mean training losses of the epochs so far."""

    request: Request
    tell: Tell
    losses: list[float] = field(default_factory=list)
    unfit: int = 0

    def run(self, train: Sequence[Known], val: Sequence[Known]) -> None:
        """Leave the epoch with the lowest loss on held-out clips in ``request.original``. Raises TuningError."""
        request = self.request
        auto = open_base(request)
        model, tokenizer, frontend = auto.model, auto.kwargs["tokenizer"], auto.kwargs["frontend"]
        teach_tags(model, tokenizer)
        freeze(model, request.frozen)
        self._write(train, val, tokenizer, frontend.lfr_n)
        work = importlib.import_module("funasr.train_utils.trainer_ds").Trainer(
            device=request.device,
            output_dir=str(request.work / "trainer"),
            max_epoch=request.epochs,
            grad_clip=GRADIENT,
            **dict.fromkeys(("log_interval", "save_checkpoint_interval", "validate_interval"), NEVER),
        )
        model = work.warp_model(model, device=request.device)
        data = self._data(frontend, tokenizer, max(known.frames for known in (*train, *val)))
        watch = Watch(model.vocab_size, self.tell)
        model.register_forward_hook(watch.see, with_kwargs=True)
        try:
            self._epochs(work, model, data, watch)
        finally:
            work.close(writer=work.writer)

    def _write(self, train: Sequence[Known], val: Sequence[Known], tokenizer: Any, step: int) -> None:
        """The lists for FunASR's data set, without what it cannot learn from. Raises TuningError."""
        lists = ((train, "train", Code.NO_TRAINING_DATA), (val, "val", Code.NO_HELD_OUT_DATA))
        for clips, name, missing in lists:
            fit = [known for known in clips if fits(known, tokenizer, step)]
            self.unfit += len(clips) - len(fit)
            if not fit:
                raise TuningError(missing, f"The vocabulary cannot write any text of {name} in its time.")
            write_list(self.request.work / f"{name}.jsonl", fit)

    def _data(self, frontend: Any, tokenizer: Any, longest: int) -> Any:
        request = self.request
        loader = importlib.import_module("funasr.datasets.dataloader_entry").DataloaderMapStyle
        return loader(
            frontend=frontend,
            tokenizer=tokenizer,
            dataset="SenseVoiceCTCDataset",
            train_data_set_list=str(request.work / "train.jsonl"),
            valid_data_set_list=str(request.work / "val.jsonl"),
            dataset_conf={
                "index_ds": "IndexDSJsonl",
                "batch_sampler": "EspnetStyleBatchSampler",
                "batch_type": "length",
                # a first clip that is longer than a batch makes an empty batch, of which the data set makes noise
                "batch_size": max(int(request.batch_seconds * 100), longest),
                **dict.fromkeys(("max_source_length", "max_target_length", "max_token_length"), NEVER),
                "num_workers": 0 if request.device == "cpu" else request.threads,
                "pin_memory": request.device != "cpu",
            },
        )

    def _epochs(self, work: Any, model: Any, data: Any, watch: Watch) -> None:
        request, lowest = self.request, math.inf
        steps = len(list(data.build_iter(0)[0].batch_sampler))
        model, optimiser, schedule = work.warp_optim_scheduler(
            model,
            optim="adamw",
            optim_conf={"lr": request.learning_rate},
            scheduler="warmuplr",
            scheduler_conf={"warmup_steps": min(WARM_UP_STEPS, max(1, int(WARM_UP * steps * request.epochs)))},
        )
        for epoch in range(1, request.epochs + 1):
            begun = time.monotonic()
            learning, held_out = data.build_iter(epoch)
            watch.begin(epoch, steps)
            work.step_in_epoch = 0
            work.train_epoch(
                model=model, optim=optimiser, scheduler=schedule, dataloader_train=learning, epoch=epoch
            )
            self.losses.append(watch.end())
            watch.begin(epoch, 0)
            work.validate_epoch(model=model, dataloader_val=held_out, epoch=epoch)
            loss = watch.end()
            if loss < lowest:
                lowest = loss
                keep(model, request)
            seconds = round(time.monotonic() - begun, 1)
            self.tell({"epoch": epoch, "loss": self.losses[-1], "held_out_loss": loss, "seconds": seconds})


def open_base(request: Request) -> Any:
    """FunASR's ``AutoModel`` of the base. Raises TuningError."""
    try:
        # from the folder alone: no hub is asked, no code of the model's is run
        auto = importlib.import_module("funasr").AutoModel(
            model=str(request.base),
            device=request.device,
            seed=request.seed,
            ncpu=request.threads,
            disable_update=True,
            disable_pbar=True,
        )
    except Exception as error:
        raise TuningError(Code.BASE_UNUSABLE, f"{request.base} does not load: {error}") from error
    if type(auto.model).__name__ != "SenseVoiceSmall":
        raise TuningError(Code.BASE_UNUSABLE, f"{request.base} is no SenseVoice.")
    return auto


def teach_tags(model: Any, tokenizer: Any) -> None:
    """Tell the network where its vocabulary has the tags of languages and of number writing.

    Training turns a target's tags into queries by ids of the published vocabulary, which stand in FunASR's
    code; for that vocabulary nothing changes here. Raises TuningError where tags are missing.
    """

    def places(queries: dict[str, int]) -> dict[int, int]:
        found = {tokenizer.sp.piece_to_id(f"<|{name}|>"): query for name, query in queries.items()}
        if tokenizer.sp.unk_id() in found or len(found) < len(queries):
            raise TuningError(Code.BASE_UNUSABLE, f"The vocabulary of the base lacks one of {', '.join(queries)}.")
        return found

    # "auto" is what is asked where the language is left open, and no target
    model.lid_int_dict = places({name: query for name, query in model.lid_dict.items() if name != "auto"})
    model.textnorm_int_dict = places(model.textnorm_dict)


def freeze(model: Any, blocks: int) -> None:
    """Leave the first blocks of the encoder as they are. Raises TuningError where it has not so many."""
    encoder = model.encoder
    every = [*encoder.encoders0, *encoder.encoders, *encoder.tp_encoders]
    if blocks > len(every):
        raise TuningError(Code.INVALID_REQUEST, f"frozen is {blocks}, but the encoder has {len(every)} blocks.")
    for block in every[:blocks]:
        block.requires_grad_(False)


def keep(model: Any, request: Request) -> None:
    """The network's weights as they are now, beside the base's other files: a folder as the base's."""
    request.original.mkdir(exist_ok=True)
    for path in request.base.iterdir():
        if path.is_file() and path.name != "model.pt" and not (request.original / path.name).exists():
            shutil.copyfile(path, request.original / path.name)
    weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    torch.save(weights, request.work / "model.pt")
    (request.work / "model.pt").replace(request.original / "model.pt")
