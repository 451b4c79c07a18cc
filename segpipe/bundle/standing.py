"""How far a model can be trusted, by the figures of its run: how long it was trained, on what it was validated, what speaks against it.

No figure is judged by taste. A warning stands where nothing is known, where the figures are of cases that were trained on or of fewer
than the split itself warns of, where the training took fewer steps than it warns of, and where Dice is below one half, which by its
definition means that the voxels on which model and truth agree are fewer than those on which they do not.
"""

from __future__ import annotations

from typing import Any

from segpipe.bundle.scores import unscored
from segpipe.dataset.split import FEW
from segpipe.training.seen import FEW_STEPS

HEADING = "How far it was trained and validated"
_HALF = 0.5
_MINUTE = 60.0

Document = dict[str, Any]


def standing(document: Document) -> list[str]:
    """One line on the training, one on the validation.

    Args:
        document: `segpipe.json` of a package.
    """
    training = document["provenance"]["training"] or {}
    return [f"Trained for {_training(training)}.", _validation(document["metrics"], training.get("members"))]


def warnings(document: Document) -> list[str]:
    """What speaks against the model, one line each; empty where the figures say nothing against it."""
    return [*_of_training(document), *_of_validation(document), *_of_scores(document)]


def _training(told: dict[str, Any]) -> str:
    seconds, steps, members = told.get("seconds"), told.get("steps"), told.get("members")
    time = "a time that nobody told" if seconds is None else _time(seconds)
    count = "an unknown number of" if steps is None else str(steps)
    cases = (told.get("partition") or {}).get("train")
    on = "an unknown number of" if cases is None else str(cases)
    together = f", {members} networks together" if members else ""
    return f"{time}, {count} optimiser step(s){together}, on {on} case(s)"


def _time(seconds: float) -> str:
    return f"{seconds / _MINUTE:.1f} minutes" if seconds >= _MINUTE else f"{seconds:.0f} s"


def _validation(metrics: dict[str, Any], members: int | None) -> str:
    cases = metrics["cases"]
    if not cases or not metrics["dice"]:
        return "Not validated."
    held_out = ", each by the networks that were not trained on it" if members else ", none of which it was trained on"
    seen = {True: held_out, False: ", on which it was trained as well", None: ""}[metrics["held_out"]]
    scores = ", ".join(f"{name} {score_text(score)}" for name, score in metrics["dice"].items())
    return f"Validated on {cases} case(s){seen}; Dice of {scores}."


def score_text(score: dict[str, Any]) -> str:
    """`0.887 (0.871 to 0.899, 52 cases)`."""
    interval = f"{score['low']:.3f} to {score['high']:.3f}" if score["low"] is not None else "interval missing"
    cases = f"{score['cases']} case(s)" if score["cases"] is not None else "number of cases missing"
    return f"{score['mean']:.3f} ({interval}, {cases})"


def _of_training(document: Document) -> list[str]:
    told = document["provenance"]["training"] or {}
    steps, members = told.get("steps"), told.get("members") or 1
    if steps is None:
        return ["Nobody told how long it was trained."]
    few = steps < FEW_STEPS * members
    return [f"It took {steps} optimiser step(s){f' for {members} networks' if members > 1 else ''}: it is hardly trained."] if few else []


def _of_validation(document: Document) -> list[str]:
    metrics = document["metrics"]
    if not metrics["cases"] or not metrics["dice"]:
        return ["It was not validated: nothing is known of how good it is."]
    if metrics["held_out"] is False:
        return ["It was validated on cases that it was trained on: its scores say nothing about other scans."]
    found = []
    if metrics["held_out"] is None:
        found.append("Nobody told whether it was trained on the cases of its scores.")
    if metrics["cases"] < FEW:
        found.append(f"It was validated on {metrics['cases']} case(s) only: a score on so few says little.")
    return found


def _of_scores(document: Document) -> list[str]:
    scores = document["metrics"]["dice"]
    if not scores:
        return []
    found = [f"Nothing is known of how good it is at {name}: no validated case had it." for name in unscored(document)]
    for name, score in scores.items():
        if score["mean"] < _HALF:
            found.append(f"Dice of {name} is {score['mean']:.3f}: less than half of what it marks and of what it should mark agrees.")
    return found


def unproved(document: Document) -> list[str]:
    """Labels that no sample has, so that `verify` proves nothing of them; the background, the first, is none."""
    voxels = [sample["voxels"] for sample in document["samples"]]
    return [label["name"] for label in document["labels"][1:] if not any(found.get(label["name"]) for found in voxels)]
