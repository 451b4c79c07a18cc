"""Interpolation of label maps: each neighbour votes for its class with its linear weight, and the heaviest class wins.

The same as linear interpolation of one channel a class followed by arg-max, at a cost that does not grow with the number of classes:
only voxels whose neighbours disagree are counted. Never invents a class. A rotated label map of a structure 10 to 30 voxels wide
agrees with the truth to a Dice of 0.957 this way and 0.936 with the nearest voxel (`tests/patches/test_label_vote.py` measures it).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

_TOGETHER = 2**21
"""Places that are counted at a time on a GPU: 0.2 GB."""


def vote_labels(label: Tensor, places: Tensor) -> Tensor:
    """Label maps at other places.

    Args:
        label: (B, *space) class indices, any integer type; two or three axes of space.
        places: (axes, B, *new) float32 coordinates in voxels, 0 at the centre of the first. What lies outside is background, 0.

    Returns:
        (B, *new) of the label's type. A tie goes to the class of the neighbour that comes first.
    """
    space = label.shape[1:]
    padded = functional.pad(label, [1, 2] * len(space))  # background around, wide enough for every clamped place
    memory = padded.reshape(-1)
    strides = [math.prod(padded.shape[axis + 2 :]) for axis in range(len(space))]
    flat = [place.reshape(-1).clamp(-1, size) for place, size in zip(places, space, strict=True)]  # (P,) each
    cases = torch.arange(len(label), device=label.device) * padded[0].numel() + sum(strides)
    first = cases.repeat_interleave(places[0, 0].numel())  # to become the neighbour with the smallest index, in memory
    for place, stride in zip(flat, strides, strict=True):
        first += place.floor().long().mul_(stride)
    corners = list(itertools.product((0, 1), repeat=len(space)))
    offsets = [sum(step * stride for step, stride in zip(corner, strides, strict=True)) for corner in corners]
    if label.is_cuda:  # to find the places that are mixed would make the processor wait for their number
        parts = zip(first.split(_TOGETHER), *(place.split(_TOGETHER) for place in flat), strict=True)
        winners = [_votes(memory, near, offsets, shares) for near, *shares in parts]
        return torch.cat(winners).reshape(places.shape[1:])
    result = memory.index_select(0, first)
    rows = torch.nonzero(_mixed(padded).reshape(-1).index_select(0, first))[:, 0]  # (M,) places whose neighbours disagree
    result[rows] = _votes(memory, first[rows], offsets, [place[rows] for place in flat])
    return result.reshape(places.shape[1:])


def _votes(memory: Tensor, near: Tensor, offsets: list[int], places: list[Tensor]) -> Tensor:
    """Heaviest class at M places: `near` (M,) their first neighbours in memory, `places` (M,) for each axis -> (M,)."""
    classes = torch.stack([memory.index_select(0, near + offset) for offset in offsets])  # (corners, M)
    return _winners(classes, [place.remainder(1) for place in places])


def _mixed(padded: Tensor) -> Tensor:
    """Whether the cell of neighbours that begins at each voxel holds more than one class; the last of each axis is never looked up."""
    mixed = torch.zeros_like(padded, dtype=torch.bool)
    for axis in range(1, padded.ndim):
        size = padded.shape[axis] - 1
        here, next_one = padded.narrow(axis, 0, size), padded.narrow(axis, 1, size)
        before = mixed.narrow(axis, 0, size) | mixed.narrow(axis, 1, size)  # along the axes before, on this face of the cell or the other
        mixed.narrow(axis, 0, size).copy_(before | (here != next_one))
    return mixed


def _winners(classes: Tensor, shares: list[Tensor]) -> Tensor:
    """Heaviest class of each place: `classes` (corners, M), `shares` (M,) for each axis -> (M,)."""
    weights = torch.ones((1, classes.shape[1]), device=classes.device)
    for share in shares:  # the last axis changes fastest, as in `corners`
        weights = (weights[:, None] * torch.stack([1 - share, share])).flatten(0, 1)
    if classes.is_cuda:  # few large operations
        votes = torch.zeros_like(weights)
        for other, weight in zip(classes, weights, strict=True):
            votes += torch.where(classes == other, weight, 0.0)
        return classes.gather(0, votes.argmax(0, keepdim=True))[0]
    votes = weights.clone()  # a quarter of that time on a processor, in whose cache one row fits
    for one, other in itertools.combinations(range(len(classes)), 2):
        same = (classes[one] == classes[other]).float()
        votes[one].addcmul_(same, weights[other])
        votes[other].addcmul_(same, weights[one])
    winner, most = classes[0], votes[0]
    for own, vote in zip(classes[1:], votes[1:], strict=True):
        winner, most = torch.where(vote > most, own, winner), torch.maximum(vote, most)
    return winner
