"""FunASR's model of a base: loading it, preparing it for training, and saving it."""

from __future__ import annotations

import importlib
import shutil
from typing import Any

import torch

from speech.training.tuning.request import Request, TuningError, TuningErrorCode


def load_base_model(request: Request) -> Any:
    """The base as FunASR's ``AutoModel``. Raises TuningError."""
    try:
        # from a folder: no hub is queried, no code of the model's is run
        auto = importlib.import_module("funasr").AutoModel(
            model=str(request.base),
            device=request.device,
            seed=request.seed,
            ncpu=request.threads,
            disable_update=True,
            disable_pbar=True,
        )
    except Exception as error:
        raise TuningError(TuningErrorCode.BASE_UNUSABLE, f"{request.base} does not load: {error}") from error
    if type(auto.model).__name__ != "SenseVoiceSmall":
        raise TuningError(TuningErrorCode.BASE_UNUSABLE, f"{request.base} is no SenseVoice.")
    return auto


def set_tag_ids(model: Any, tokenizer: Any) -> None:
    """Map the vocabulary's tag ids (languages, ITN) to the network's queries.

    FunASR's code has the ids of the published vocabulary only; for that vocabulary nothing changes here.
    Raises TuningError where tags are missing.
    """

    def query_by_id(queries: dict[str, int]) -> dict[int, int]:
        ids = {tokenizer.sp.piece_to_id(f"<|{name}|>"): query for name, query in queries.items()}
        if tokenizer.sp.unk_id() in ids or len(ids) < len(queries):
            raise TuningError(
                TuningErrorCode.BASE_UNUSABLE, f"The vocabulary of the base lacks one of {', '.join(queries)}."
            )
        return ids

    # "auto" is a query for an unknown language, never a target
    model.lid_int_dict = query_by_id({name: query for name, query in model.lid_dict.items() if name != "auto"})
    model.textnorm_int_dict = query_by_id(model.textnorm_dict)


def freeze_blocks(model: Any, blocks: int) -> None:
    """Exclude the encoder's first blocks from training. Raises TuningError where it has fewer."""
    encoder = model.encoder
    all_blocks = [*encoder.encoders0, *encoder.encoders, *encoder.tp_encoders]
    if blocks > len(all_blocks):
        raise TuningError(
            TuningErrorCode.INVALID_REQUEST, f"frozen is {blocks}, but the encoder has {len(all_blocks)} blocks."
        )
    for block in all_blocks[:blocks]:
        block.requires_grad_(False)


def save_checkpoint(model: Any, request: Request) -> None:
    """Write the current weights and the base's other files to the request's original folder."""
    request.original_folder.mkdir(exist_ok=True)
    for path in request.base.iterdir():
        if path.is_file() and path.name != "model.pt" and not (request.original_folder / path.name).exists():
            shutil.copyfile(path, request.original_folder / path.name)
    weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    torch.save(weights, request.work_folder / "model.pt")
    (request.work_folder / "model.pt").replace(request.original_folder / "model.pt")
