"""A network that OpenVINO computes on the processor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segpipe.errors import ModelError
from segpipe.package.extra import openvino
from segpipe.package.fixed_graph import fixed_graph
from segpipe.package.pt2 import quiet

log = logging.getLogger(__name__)

_SAFE = {"SNIPPETS_MODE": "DISABLE"}
"""OpenVINO 2026.4 crashes while it compiles a V-Net with instance or group normalisation, unless its generator of fused kernels is off; a
U-Net takes a seventh more time so."""

Shape = tuple[int, ...]
Convert = Callable[[Shape], Any]
"""Input shape (B, C, *spatial) -> an `openvino.Model` of it."""


class OpenVinoNetwork:
    """(B, C, *spatial) -> logits (B, N, *spatial) float32, on the CPU; of a single image they are good until the next call.

    Images go through one by one: the network is compiled once a spatial size, whatever the batch, and the threads share the work on each.

    Args:
        convert: gives the model of a shape with batch 1.
        threads: processor threads; 0: as many as torch has.
        bf16: multiply in bfloat16, where the processor knows it.
    """

    def __init__(self, convert: Convert, threads: int = 0, bf16: bool = False) -> None:
        self._convert = convert
        self._threads = threads
        self._bf16 = bf16
        self._core = openvino().Core()
        self._compiled: dict[Shape, Any] = {}

    def __call__(self, windows: Tensor) -> Tensor:
        """Raises:
        ModelError: OpenVINO cannot compute the network.
        """
        compiled = self._for((1, *windows.shape[1:]))
        try:
            shared = windows.shape[0] == 1  # the answer stays in OpenVINO's memory, and is good until the next one
            images = windows.detach().float().split(1)
            outputs = [torch.from_numpy(compiled(one.contiguous().numpy(), share_outputs=shared)[0]) for one in images]
        except RuntimeError as error:
            raise ModelError(f"OpenVINO fails on an input of {tuple(windows.shape)}: {_reason(error)}: use --runtime torch") from error
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def in_bf16(self) -> OpenVinoNetwork:
        """The same network in bfloat16."""
        return OpenVinoNetwork(self._convert, self._threads, True)

    def forget(self) -> None:
        """Give back the memory of what was compiled: another shape comes next."""
        self._compiled.clear()

    def _for(self, shape: Shape) -> Any:
        if shape not in self._compiled:
            hints = {
                "INFERENCE_PRECISION_HINT": "bf16" if self._bf16 else "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": self._threads or torch.get_num_threads(),
            }
            hints |= _SAFE
            self._compiled[shape] = self._core.compile_model(self._model_of(shape), "CPU", hints)
        return self._compiled[shape]

    def _model_of(self, shape: Shape) -> Any:
        """Not kept: what is compiled of it has its own copy of the weights."""
        try:
            return self._convert(shape)
        except Exception as error:  # torch's tracer and OpenVINO's readers have errors of many kinds
            raise ModelError(f"OpenVINO cannot take the network: {_reason(error)}: use --runtime torch") from error


def knows_bf16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor."""
    return "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def from_torch(module: nn.Module, threads: int = 0) -> OpenVinoNetwork:
    """Of a TorchScript or exported network."""

    kept: list[Any] = []  # OpenVINO computes with the memory of torch's weights, which must not be given back

    def convert(shape: Shape) -> Any:
        graph = fixed_graph(module, shape)
        kept.append(graph)
        with quiet(), torch.no_grad():
            try:
                decoder = _decoder(graph, shape)
                kept.append(decoder)
                frontend = openvino().frontend.FrontEndManager().load_by_framework("pytorch")
                return frontend.convert(frontend.load(decoder))
            except RuntimeError as error:
                log.debug("OpenVINO's reader of graphs: %s", _reason(error))
            # a second or two more, for operators that are to be taken apart first
            program = torch.export.export(graph, (torch.zeros(shape),))
            kept.append(program)
            return openvino().convert_model(program)

    return OpenVinoNetwork(convert, threads)


def _decoder(graph: nn.Module, shape: Shape) -> Any:
    """What OpenVINO reads a graph of torch with when torch.compile asks it to: at once, of the operators that it knows."""
    ov = openvino()
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    return TorchFXPythonDecoder(graph, input_shapes=[ov.PartialShape(list(shape))], input_types=["torch.float32"])


def from_onnx(data: bytes, threads: int = 0) -> OpenVinoNetwork:
    """Of an ONNX file that was checked (`read_onnx`).

    Raises:
        ModelError: OpenVINO cannot read it, or is not installed.
    """
    ov = openvino()
    try:
        ov.Core().read_model(data)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot read the network: {_reason(error)}") from error

    def convert(shape: Shape) -> Any:
        model = ov.Core().read_model(data)
        model.reshape(list(shape))
        return model

    return OpenVinoNetwork(convert, threads)


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
