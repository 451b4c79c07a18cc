"""Plans that are trained side by side, so that held-out cases can choose among them: 2D, 3D, and 3D at a low resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError
from segpipe.plan.plan import Plan
from segpipe.plan.spacing import SEEN_SHARE, median_shape, seen_share
from segpipe.settings import Settings

AUTO = "auto"
_CHANGES: dict[str, dict[str, object]] = {
    "2d": {"dims": 2, "resolution": "full"},
    "3d": {"dims": 3, "resolution": "full"},
    "3d_low": {"dims": 3, "resolution": "low"},
}
"""What each sets, of the settings of the plan."""


def named(settings: Settings, configuration: str) -> Settings:
    """The settings with the plan of one configuration; the empty string: as they are."""
    if not configuration:
        return settings
    return replace(settings, plan=replace(settings.plan, **_CHANGES[configuration]))  # type: ignore[arg-type]


def check_configurations(settings: Settings) -> None:
    """Raises:
    ConfigError: one is named twice, auto is not alone, or other settings go with one of them only.
    """
    wanted = settings.configurations
    if not wanted:
        return
    if len(set(wanted)) < len(wanted) or (AUTO in wanted and len(wanted) > 1):
        raise ConfigError(f"configurations is {wanted}; must be auto alone, or each of {', '.join(_CHANGES)} once at most")
    fixed = _fixed(settings)
    if fixed:
        raise ConfigError(f"{fixed} and configurations are both set: leave one of them out")
    if settings.plan.spacing_mm and "3d_low" in wanted:
        raise ConfigError("plan.spacing_mm is set, and the configuration 3d_low has a spacing of its own: leave one of them out")
    if settings.training.init and (AUTO in wanted or ("2d" in wanted and len(wanted) > 1)):
        raise ConfigError("training.init is set, whose weights go with 2D or with 3D: name configurations of one kind")
    dataset = settings.dataset
    nothing_held_out = settings.folds == "none" and dataset.split == "fraction" and not dataset.fraction and not dataset.validation_cases
    if nothing_held_out and (AUTO in wanted or len(wanted) > 1):
        raise ConfigError("dataset.fraction is 0, so that no case is held out to choose among configurations: raise it, or folds=all")


def _fixed(settings: Settings) -> str:
    """The setting that leaves no choice of configurations; the empty string where there is none."""
    wanted = settings.plan
    by_hand = {"plan.file": bool(wanted.file), "plan.dims": bool(wanted.dims), "plan.resolution": wanted.resolution != "full"}
    return next((key for key, value in by_hand.items() if value), "")


def choose_configurations(settings: Settings, data: Fingerprint, full: Callable[[], Plan]) -> tuple[str, ...]:
    """Which are trained, in their order; auto: what the data allows, the low resolution first.

    Args:
        full: makes the plan of the settings without configurations.
    """
    if settings.configurations == [AUTO]:
        found = auto_configurations(settings, data, full())
        return found[0] if found else ()
    return tuple(settings.configurations)


def auto_configurations(settings: Settings, data: Fingerprint, full: Plan) -> tuple[tuple[str, ...], str] | None:
    """What can be tried on the data, and why; None where other settings have decided already.

    Args:
        full: the plan that the settings make without configurations.
    """
    if _fixed(settings):
        return None
    if full.dims == 2:
        return ("2d",), "pictures, or volumes of one slice"
    share = seen_share(full.patch_size, median_shape(data, full.axes, full.spacing_mm))
    seen = f"a 3D patch sees {100 * share:.0f} % of the median scan"
    if share < SEEN_SHARE and not settings.plan.spacing_mm:
        return ("3d_low", "3d", "2d"), f"{seen}, below {100 * SEEN_SHARE:.0f} %"
    return ("3d", "2d"), seen


def planned_in(folder: Path) -> tuple[str, ...]:
    """The configurations whose plans are in the folder of the folds, in the order of auto."""
    return tuple(name for name in ("3d_low", "3d", "2d") if (folder / plan_name(name)).exists())


def plan_name(configuration: str) -> str:
    """Name of the file of its plan in the folder of the folds."""
    return f"plan_{configuration}.json" if configuration else "plan.json"


def pairs_of(configurations: Sequence[str]) -> list[tuple[str, ...]]:
    """What can become the model: each alone, then each two together, whose probabilities are averaged (Isensee et al. 2021)."""
    pairs = [(one, other) for number, one in enumerate(configurations) for other in configurations[number + 1 :]]
    return [*((one,) for one in configurations), *pairs]
