"""Whisper's encoder on a CPU, by ONNX Runtime.

It is CTranslate2's network with the weights of its file, and int8 as it has it: weights have a scale for each row,
and activations one for each position. But attention is computed block by block, and never as a whole matrix of
1500 times 1500 positions, which takes CTranslate2 a third of its time on a CPU.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from speech.models.ctranslate2_file import WEIGHTS_FILE, WHISPER_HEAD_SIZE, Tensor, read_variables
from speech.models.onnx import open_session

MAX_WIDTH = 768
"""Of the positions, up to the small model's. In larger ones attention takes a smaller part, and the encoder's
weights, which CTranslate2 keeps in memory, too, are most of the model's."""
NORM = "encoder/layer_norm/gamma"
OPSET = 17
IR_VERSION = 9
MICROSOFT = "com.microsoft"
ZERO = 128
"""The unsigned byte that stands for 0: processors multiply unsigned bytes by signed ones."""
LARGEST = 127


def is_small(folder: Path) -> bool:
    """Whether the model in a folder is of a size that is faster here. Raises OSError, ValueError."""
    gamma = read_variables(folder / WEIGHTS_FILE, NORM).get(NORM, ())
    return 0 < len(gamma) <= MAX_WIDTH


class Encoder:
    """Thread-safe."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        """Raises OSError, ValueError, EngineUnavailable."""
        path = folder / WEIGHTS_FILE
        try:
            model = encoder_model(read_variables(path, "encoder/"))
        except KeyError as error:
            raise ValueError(f"{path} is no Whisper: it has no {error}") from error
        # from a file: of a model in memory, ONNX Runtime keeps the bytes beside what it makes of them
        with tempfile.TemporaryDirectory() as name:
            written = Path(name) / "encoder.onnx"
            written.write_bytes(model)
            self._session = open_session(written, threads=threads)

    def encode(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """From features (bands, frames) to positions (1, frames / 2, dimensions)."""
        (positions,) = self._session.run(None, {"features": features[None]})
        return np.asarray(positions, np.float32)


def encoder_model(variables: Mapping[str, Tensor]) -> bytes:
    """The encoder in ONNX, of CTranslate2's variables. Raises KeyError."""
    model: bytes = _Graph(variables).model().SerializeToString()
    return model


class _Graph:
    """Nodes are added one behind the other; each is named by what it gives."""

    def __init__(self, variables: Mapping[str, Tensor]) -> None:
        self._variables = variables
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        x = self._run("Conv", "features", *self._convolution("encoder/conv1"), kernel_shape=[3], pads=[1, 1])
        x = self._run(
            "Conv", self._gelu(x), *self._convolution("encoder/conv2"), kernel_shape=[3], pads=[1, 1], strides=[2]
        )
        x = self._run("Transpose", self._gelu(x), perm=[0, 2, 1])
        x = self._run("Add", x, self._positions(x))
        layer = 0
        while f"encoder/layer_{layer}/ffn/linear_0/weight" in self._variables:
            x = self._layer(x, f"encoder/layer_{layer}")
            layer += 1
        output = self._norm(x, "encoder/layer_norm")
        bands = self._variables["encoder/conv1/weight"].shape[1]
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, bands, "frames"])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, "positions", self._width])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    @property
    def _width(self) -> int:
        return len(self._variables[NORM])

    @property
    def _heads(self) -> int:
        return int(self._variables.get("encoder/num_heads", self._width // WHISPER_HEAD_SIZE))

    def _layer(self, x: str, name: str) -> str:
        normed = self._norm(x, f"{name}/self_attention/layer_norm")
        joined = self._linear(self._quantised(normed), f"{name}/self_attention/linear_0")
        query, key, value = self._split(joined, 3)
        attended = self._run("MultiHeadAttention", query, key, value, domain=MICROSOFT, num_heads=self._heads)
        x = self._run("Add", x, self._linear(self._quantised(attended), f"{name}/self_attention/linear_1"))
        hidden = self._linear(self._quantised(self._norm(x, f"{name}/ffn/layer_norm")), f"{name}/ffn/linear_0")
        return self._run("Add", x, self._linear(self._quantised(self._gelu(hidden)), f"{name}/ffn/linear_1"))

    def _quantised(self, x: str) -> tuple[str, str]:
        """Unsigned bytes, and the scale of each position."""
        largest = self._run("ReduceMax", self._run("Abs", x), axes=[-1])
        # of silence all are 0
        scale = self._run("Max", self._run("Mul", largest, self._number(1 / LARGEST)), self._number(1e-12))
        rounded = self._run("Round", self._run("Div", x, scale))
        return self._run("Cast", self._run("Add", rounded, self._number(ZERO)), to=TensorProto.UINT8), scale

    def _linear(self, quantised: tuple[str, str], name: str) -> str:
        x, scale = quantised
        weight, bias = self._weights(name)
        scales = np.maximum(np.abs(weight).max(axis=1), 1e-12) / LARGEST
        integers = np.round(weight / scales[:, None]).astype(np.int8)
        product = self._run(
            "MatMulInteger", x, self._constant(integers.T), self._constant(np.array(ZERO, np.uint8))
        )
        scaled = self._run("Mul", self._run("Cast", product, to=TensorProto.FLOAT), scale)
        return self._run("Add", self._run("Mul", scaled, self._constant(scales)), self._constant(bias))

    def _positions(self, x: str) -> str:
        """Of as many as there are."""
        count = self._run("Slice", self._run("Shape", x), *map(self._integers, (1, 2)))
        encodings = self._constant(self._variables["encoder/position_encodings/encodings"])
        return self._run("Slice", encodings, self._integers(0), count)

    def _norm(self, x: str, name: str) -> str:
        weights = (self._constant(self._variables[f"{name}/{part}"]) for part in ("gamma", "beta"))
        return self._run("LayerNormalization", x, *weights, axis=-1)

    def _gelu(self, x: str) -> str:
        return self._run("Gelu", x, domain=MICROSOFT)

    def _convolution(self, name: str) -> list[str]:
        return [*map(self._constant, self._weights(name))]

    def _weights(self, name: str) -> tuple[Tensor, Tensor]:
        """Weight and bias. A file that was quantised has integers, and the scale of each row."""
        weight, bias = self._variables[f"{name}/weight"], self._variables[f"{name}/bias"]
        scale = self._variables.get(f"{name}/weight_scale")
        return weight if scale is None else weight / scale.reshape(-1, *[1] * (weight.ndim - 1)), bias

    def _split(self, x: str, count: int) -> list[str]:
        outputs = [f"{x}/{number}" for number in range(count)]
        self._nodes.append(helper.make_node("Split", [x], outputs, axis=-1))
        return outputs

    def _run(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        output = f"{kind}-{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], output, domain=domain, **attributes))
        return output

    def _number(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _integers(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64))

    def _constant(self, values: NDArray[np.generic]) -> str:
        name = f"constant-{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name
