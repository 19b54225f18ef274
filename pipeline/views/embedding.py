"""Embeddings of aligned pictures by a face recognition network that the user has: an ONNX file.

onnxruntime is an extra, `facefold[embeddings]`; nothing is ever downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.errors import FacefoldError, MachineError, ModelError
from pipeline.types import Array, checked
from pipeline.views.view import ALIGNED_PX

INSTALL_ONNXRUNTIME = "pip install 'facefold[embeddings]'"
FAULTS = (
    "NotImplemented",
    "RuntimeException",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoModel",
)
"""Of a network's file, by the names of onnxruntime's exceptions."""
EMBEDDING = 512
"""Numbers of an embedding, as the store's field `embeddings` has them."""


@dataclass(frozen=True)
class EmbeddingNetwork:
    """A network's file and what it takes: (pixels − mean) / scale, in its order of colours."""

    path: Path
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: float | tuple[float, float, float] = 127.5
    """Of a pixel's 0 … 255, one for all or one for each channel in their order."""
    scale: float | tuple[float, float, float] = 127.5


@dataclass(frozen=True, eq=False)
class Embedder:
    """A network that is loaded; made by `load_embedder`."""

    network: EmbeddingNetwork
    session: Any
    """onnxruntime's."""
    input_name: str
    channels_first: bool

    def embeddings(self, aligned: Array) -> Array:
        """(N,112,112,3) uint8 RGB -> (N,512) float32 of length 1.

        Pictures go one by one: what else is in a batch changes no bit of a picture's embedding.
        Raises FacefoldError, which names them, for pictures that the network gives no numbers for
        or only zeros.
        """
        size = ALIGNED_PX
        pictures = checked("embeddings", "aligned", aligned, (None, size, size, 3), np.uint8)
        found = np.empty((len(pictures), EMBEDDING), np.float32)
        for row, picture in enumerate(pictures):
            found[row] = self.outputs(picture)[0][0]
        length = np.linalg.norm(found.astype(np.float64), axis=1)
        bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
        if len(bad):
            fault = f"{self.network.path}: gives only zeros, or what is no number, for {len(bad)}"
            rows = ", ".join(map(str, bad[:5]))
            remedy = "check its `mean` and `scale`, and the pictures"
            message = f"{fault} of {len(pictures)} pictures, the first are rows {rows}; {remedy}"
            raise FacefoldError(message, figures={"rows": bad.tolist()})
        return np.asarray(found / length[:, None], np.float32)

    def outputs(self, picture: Array) -> list[Array]:
        """(112,112,3) uint8 RGB -> all that the network gives for it."""
        ordered = picture if self.network.channels == "rgb" else picture[..., ::-1]
        mean, scale = (np.asarray(x, np.float32) for x in (self.network.mean, self.network.scale))
        blob = (ordered - mean) / scale
        blob = np.ascontiguousarray(blob.transpose(2, 0, 1) if self.channels_first else blob)
        return list(self.session.run(None, {self.input_name: blob[None]}))


def load_embedder(network: EmbeddingNetwork, threads: int = 1) -> Embedder:
    """Loads the network on the CPU. The same pictures give the same bits on the same machine.

    Raises MachineError without onnxruntime, and ModelError for a file that is no ONNX network and
    for one that does not take a picture of 112 · 112 · 3 and give 512 numbers.
    """
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as fault:
        message = f"onnxruntime cannot be imported ({fault}); {INSTALL_ONNXRUNTIME}"
        raise MachineError(message) from fault
    path = Path(network.path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give the path of an ONNX network")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        inputs = session.get_inputs()
        channels_first = takes_pictures(path, inputs)
        embedder = Embedder(network, session, inputs[0].name, channels_first)
        refuse_outputs(path, embedder.outputs(np.zeros((ALIGNED_PX, ALIGNED_PX, 3), np.uint8)))
    except tuple(getattr(state, name) for name in FAULTS) as error:
        said = str(error).splitlines()[0]
        message = f"{path}: no usable ONNX network ({said}); export it again"
        raise ModelError(message) from error
    return embedder


def takes_pictures(path: Path, inputs: list[Any]) -> bool:
    """Whether channels come first. Raises ModelError unless there is one input, of pictures."""
    said = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
    if len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(inputs[0].shape) == 4:
        batch, *picture = inputs[0].shape
        for channels_first in (True, False):
            sides = [ALIGNED_PX, ALIGNED_PX]
            wanted = [3, *sides] if channels_first else [*sides, 3]
            if fits(batch, 1) and all(map(fits, picture, wanted)):
                return channels_first
    expected = f"one of floats, (N, 3, {ALIGNED_PX}, {ALIGNED_PX}) or channels last"
    remedy = "export it with such an input and a batch that is free or 1"
    raise ModelError(f"{path}: inputs {said}, expected {expected}; {remedy}")


def refuse_outputs(path: Path, outputs: list[Array]) -> None:
    """Raises ModelError unless the network gives one array, of EMBEDDING floats a picture."""
    if len(outputs) != 1 or outputs[0].shape != (1, EMBEDDING) or outputs[0].dtype != np.float32:
        said = ", ".join(f"{o.dtype} {o.shape}" for o in outputs)
        expected = f"float32 (1, {EMBEDDING}) alone, as the field `embeddings` holds it"
        raise ModelError(f"{path}: gives {said} for a picture, expected {expected}; export it so")


def fits(stated: Any, wanted: int) -> bool:
    """Whether a dimension is as wanted, or free: a name or nothing."""
    return stated == wanted or not isinstance(stated, int)
