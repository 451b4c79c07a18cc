"""What whole trainings of the tests begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.settings import AugmentSettings, DatasetSettings, NetworkSettings, PlanSettings, Settings, TrainingSettings


def tiny(data: Path, run: Path, device: str, augment: AugmentSettings, training: dict[str, Any]) -> Settings:
    """A network of two stages on small patches, with dropout, so that chance has a part in it."""
    return Settings(
        name="tiny",
        run_dir=str(run),
        seed=7,
        device=device,
        dataset=DatasetSettings(root=str(data)),
        plan=PlanSettings(patch_size=[16, 16, 8], batch_size=2),
        augment=augment,
        network=NetworkSettings(features=[4, 8], stages=2, dropout=0.2),
        training=TrainingSettings(**training),
    )
