"""A network for any input size: pads to what the strides need, puts heads on the maps, crops the logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segpipe.network.blocks import CONVOLUTIONS
from segpipe.network.layout import channels_last, exporting
from segpipe.network.unet import UNet
from segpipe.network.vnet import VNet


class Segmenter(nn.Module):
    """Backbone and 1x1 heads; scripted or traced (on any one size), it works for any size.

    An input whose size is not a multiple of the strides' product is continued at its far end by its last voxels, and the logits are
    cropped. Replicated voxels, not zeros: the normalisation layers take their statistics over the continued image, too, and see
    the intensities of the image itself there, and no edge that is not in it. Sizes below the divisor work, too.

    Args:
        backbone: returns one map a stage, finest first.
        strides: of each stage, one number an axis.
        classes: outputs, background included.
        heads: maps that get a head, finest first; more than one for deep supervision.
    """

    def __init__(self, backbone: UNet | VNet, strides: tuple[tuple[int, ...], ...], classes: int, heads: int) -> None:
        super().__init__()
        dims = len(strides[0])
        self.backbone = backbone
        self.heads = nn.ModuleList(CONVOLUTIONS[dims](width, classes, 1) for width in backbone.out_channels[:heads])
        self.steps = [list(_product(strides[: stage + 1])) for stage in range(len(strides))]
        """Input voxels along each axis in one voxel of each stage's map."""
        self.divisor = self.steps[-1]
        """Sizes that need no padding are multiples of it, one number an axis."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *sizes) -> logits (B, classes, *sizes)."""
        maps: list[Tensor] = self.backbone(self.padded(x))
        logits = maps[0]
        for index, head in enumerate(self.heads):
            if index == 0:
                logits = head(logits)
        return self.cropped(logits, x, 0)

    def forward_all(self, x: Tensor) -> list[Tensor]:
        """(B, C, *sizes) -> the logits of every head, finest first.

        Head s is (B, classes, *ceil(sizes / steps[s])): its voxel k covers the input's voxels k * steps[s] to (k + 1) * steps[s].
        """
        maps: list[Tensor] = self.backbone(self.padded(x))
        return [self.cropped(head(maps[stage]), x, stage) for stage, head in enumerate(self.heads)]

    def padded(self, x: Tensor) -> Tensor:
        """(B, C, *sizes) -> (B, C, *sizes rounded up to the divisor); on a CPU with channels last in memory.

        On a GPU torch's normalisation copies such a map, which takes more time than its convolutions gain (`docs/results.md`).
        """
        x = pad_to_multiple(x, self.divisor)
        return x if x.is_cuda else channels_last(x)

    def cropped(self, logits: Tensor, x: Tensor, stage: int) -> Tensor:
        """The part of a head's logits that lies over x, channels first in memory."""
        for index, step in enumerate(self.steps[stage]):
            logits = logits.narrow(index + 2, 0, (x.shape[index + 2] + step - 1) // step)
        return logits.contiguous()


@torch.jit.script_if_tracing
def pad_to_multiple(x: Tensor, divisor: list[int]) -> Tensor:
    """(B, C, *sizes) -> (B, C, *sizes rounded up to `divisor`), continued at the far end by the last voxels."""
    margins: list[int] = []
    sizes = x.shape[2:]
    for index, step in enumerate(divisor):
        margins.insert(0, (step - sizes[index] % step) % step)  # last axis first, before (nothing) and after
        margins.insert(0, 0)
    if not torch.jit.is_scripting():
        exported = exporting()
        if exported:
            return functional.pad(x, margins, "replicate")  # no branch on the sizes
    # never x itself: a trace would take its size for the padded one's
    return functional.pad(x, margins, "replicate") if max(margins) > 0 else x.view_as(x)


def _product(strides: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Product along each axis."""
    total = [1] * len(strides[0])
    for stride in strides:
        total = [before * step for before, step in zip(total, stride, strict=True)]
    return tuple(total)
