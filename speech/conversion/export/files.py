"""What every export does once the graph is traced: metadata in, checks, int8."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

OPSET = 17


def trace(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
    metadata: Mapping[str, Any],
) -> Path:
    """Write the module as one ONNX file with these names, free dimensions and metadata."""
    with warnings.catch_warnings(), torch.inference_mode():
        # the tracer, not the newer exporter: one file, seconds instead of minutes, shapes stay free
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            example,
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in dynamic.items()},
            opset_version=OPSET,
            dynamo=False,
        )
    annotate(path, metadata)
    return path


def annotate(path: Path, metadata: Mapping[str, Any]) -> None:
    model = onnx.load(str(path))
    onnx.checker.check_model(model)
    onnx.helper.set_model_props(model, {name: str(value) for name, value in metadata.items()})
    onnx.save(model, str(path))


def quantise(source: Path, target: Path, metadata: Mapping[str, Any]) -> Path:
    """Dynamic int8 of the matrix products alone: convolutions lose accuracy and gain nothing."""
    quantize_dynamic(str(source), str(target), op_types_to_quantize=["MatMul"], weight_type=QuantType.QUInt8)
    annotate(target, metadata)
    return target
