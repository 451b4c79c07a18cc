"""What becomes of a stack under a policy, and why."""

from __future__ import annotations

from dataclasses import dataclass

from segpipe.dicom.decoding import why_undecodable
from segpipe.dicom.policy import Action, Policy
from segpipe.dicom.stack import Stack

_SHOWN = 5
_WHOLE = "must be a whole series: copy or export it again"
_CURES = {
    "gap": f"{_WHOLE}, or allow them to be blended from their neighbours (--policy gap=resample)",
    "variable": "must be evenly spaced: reconstruct it so, or allow blending onto even distances (--policy variable=resample)",
    "single": "must be several: give the whole series, or allow single slices (--policy single=accept)",
    "tilted": "must stand upright under this policy: allow it to be resampled (--policy tilted=resample)",
    "regular": "is regular, and the policy refuses regular series",
}


_DONE = {"tilted": "made upright", "gap": "blended from their neighbours", "variable": "blended onto even distances"}


@dataclass(frozen=True)
class Verdict:
    """Attributes:
    action: accept: as it lies; resample: onto another grid; refuse.
    why: what is wrong or is done, as the end of a sentence; empty where nothing is to be said.
    """

    action: Action
    why: str = ""


def classes_of(stack: Stack) -> tuple[str, ...]:
    """Every class of `Policy` that a stack belongs to; nothing where its header does not tell."""
    if stack.layout is None:
        return ()
    words = [stack.layout.kind] if stack.layout.kind != "regular" or not stack.layout.copies else []
    return (
        *(["colour"] if is_colour(stack) else []),
        *(["multiframe"] if any(plane.enhanced for plane in stack.planes) else []),
        *(["duplicate"] if stack.layout.copies else []),
        *words,
    )


def is_colour(stack: Stack) -> bool:
    """Whether stored values are colours, or numbers of colours in a palette (PS3.3 C.7.6.3.1.2)."""
    return stack.first.samples > 1 or not stack.first.photometric.startswith("MONOCHROME")


def judge(stack: Stack, policy: Policy) -> Verdict:
    """The strictest word of the policy for the stack's classes."""
    layout = stack.layout
    if stack.problem or layout is None:
        return Verdict("refuse", stack.problem)
    if is_colour(stack):
        return Verdict("refuse", "is in colour; must be grey values: give the series that it was made from")
    short = next((plane for plane in stack.planes if plane.cut), None)
    if short is not None:
        return Verdict("refuse", f"has a file that is cut short ({short.path.name}, by {short.cut} bytes); {_WHOLE}")
    undecodable = why_undecodable({plane.syntax for plane in stack.planes})
    if undecodable:
        return Verdict("refuse", undecodable)
    if policy.multiframe == "refuse" and "multiframe" in classes_of(stack):
        return Verdict("refuse", "is a multi-frame object, which the policy refuses")
    if layout.copies and policy.duplicate == "refuse":
        return Verdict("refuse", f"{_copies(stack)}; must be there once under this policy: remove the copies (--policy duplicate=accept)")
    return _judge_kind(stack, policy)


def _judge_kind(stack: Stack, policy: Policy) -> Verdict:
    layout = stack.layout
    if layout is None:
        return Verdict("refuse", stack.problem)
    action: Action = getattr(policy, layout.kind)
    copies = _copies(stack) if layout.copies else ""
    if action == "refuse":
        return Verdict("refuse", "; ".join(part for part in (f"{layout.what}; {_CURES[layout.kind]}".lstrip("; "), copies) if part))
    if layout.kind == "single" and layout.grid is None:
        return Verdict("refuse", "has one slice and states no SliceThickness; must be a series")
    if layout.kind in ("gap", "variable") and not layout.upright:
        return Verdict("refuse", f"{layout.what}; must lie straight one behind the other: export it again")
    if layout.kind == "gap" and layout.slots[-1] + 1 > 2 * len(layout.slots):
        return Verdict("refuse", f"{layout.what}; more than there are, and are not made up: {_WHOLE}")
    done = _DONE[layout.kind] if action == "resample" else ""
    return Verdict(action, "; ".join(part for part in (layout.what, done, f"{copies}, exact copies are dropped" if copies else "") if part))


def _copies(stack: Stack) -> str:
    if stack.layout is None:
        return ""
    at = stack.layout.copied
    more = f" and at {len(at) - _SHOWN} more" if len(at) > _SHOWN else ""
    return f"{stack.layout.copies} slice(s) more than places, at {', '.join(f'{height:.2f}' for height in at[:_SHOWN])} mm{more}"
