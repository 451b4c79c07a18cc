"""Settings that no data can make right, refused before anything is read."""

from __future__ import annotations

from segpipe.errors import ConfigError
from segpipe.patches.augment import check_augment
from segpipe.settings import NetworkSettings, Settings
from segpipe.training.custom import check_callback, check_network
from segpipe.training.loggers import check_loggers


def check_settings(settings: Settings) -> None:
    """What the types and ranges of single settings do not tell.

    Raises:
        ConfigError: naming the setting.
    """
    check_augment(settings.augment)
    check_network(settings.network.target)
    check_callback(settings.training.callback)
    check_loggers(settings.training)
    _check_stages(settings)


def _check_stages(settings: Settings) -> None:
    """Numbers for each encoder stage, where the settings fix how many stages there are; else `Stages` looks at the network."""
    count = 0 if settings.network.target else _stages(settings.network)
    for key, values in (("thaw", settings.training.thaw), ("stage_lr", settings.training.stage_lr)):
        if count and len(values) > count:
            raise ConfigError(f"training.{key} has {len(values)} numbers; the network has {count} encoder stages: give at most {count}")


def _stages(network: NetworkSettings) -> int:
    """Number of stages; 0: the plan decides."""
    return len(network.strides) or network.stages or len(network.features)
