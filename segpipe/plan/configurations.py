"""Plans that are trained side by side, so that held-out cases can choose among them: 2D, 3D, and 3D at a low resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
    ConfigError: one is named twice, auto is not alone, or the settings fix what configurations differ in.
    """
    wanted = settings.configurations
    if not wanted:
        return
    if len(set(wanted)) < len(wanted) or (AUTO in wanted and len(wanted) > 1):
        raise ConfigError(f"configurations is {wanted}; must be auto alone, or each of {', '.join(_CHANGES)} once at most")
    by_hand = {"plan.file": settings.plan.file, "plan.dims": settings.plan.dims, "plan.resolution": settings.plan.resolution != "full"}
    for key, value in by_hand.items():
        if value:
            raise ConfigError(f"{key} and configurations are both set: leave one of them out")


def choose_configurations(settings: Settings, data: Fingerprint, full: Plan) -> tuple[str, ...]:
    """Which are trained, in their order; auto: what the data allows, the low resolution first.

    Args:
        full: the plan that the settings make without configurations.
    """
    if settings.configurations and settings.configurations != [AUTO]:
        return tuple(settings.configurations)
    return auto_configurations(data, full)[0]


def auto_configurations(data: Fingerprint, full: Plan) -> tuple[tuple[str, ...], str]:
    """What can be tried on the data, and why."""
    if full.dims == 2:
        return ("2d",), "pictures, or volumes of one slice"
    share = seen_share(full.patch_size, median_shape(data, full.axes, full.spacing_mm))
    seen = f"a 3D patch sees {100 * share:.2g} % of the median scan"
    if share < SEEN_SHARE:
        return ("3d_low", "3d", "2d"), f"{seen}, below {100 * SEEN_SHARE:.0f} %"
    return ("3d", "2d"), seen


def plan_name(configuration: str) -> str:
    """Name of the file of its plan in the folder of the folds."""
    return f"plan_{configuration}.json" if configuration else "plan.json"


def pairs_of(configurations: Sequence[str]) -> list[tuple[str, ...]]:
    """What can become the model: each alone, then each two together, whose probabilities are averaged (Isensee et al. 2021)."""
    pairs = [(one, other) for number, one in enumerate(configurations) for other in configurations[number + 1 :]]
    return [*((one,) for one in configurations), *pairs]
