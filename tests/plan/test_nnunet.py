"""The plans that nnU-Net publishes come out (Isensee et al. 2021; hippocampus in 2D: nnU-Net's own benchmark page)."""

import math

import pytest

from segpipe.plan.nnunet import nnunet_features, nnunet_layout


def pools(strides: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    return tuple(round(math.log2(math.prod(stage[axis] for stage in strides))) for axis in range(len(strides[0])))


@pytest.mark.parametrize(
    ("median", "spacing", "cases", "classes", "patch", "batch", "pooled"),
    [
        pytest.param((36, 50, 35), (1.0, 1.0, 1.0), 260, 3, (40, 56, 40), 9, (3, 3, 3), id="Task04 3D"),
        pytest.param((36, 50, 35), (1.0, 1.0, 1.0), 208, 3, (40, 56, 40), 7, (3, 3, 3), id="Task04 3D, 208 cases"),
        pytest.param((50, 36, 35), (1.0, 1.0), 260, 3, (56, 40, 1), 366, (3, 3), id="Task04 2D"),
        pytest.param((319, 320, 20), (0.625, 0.625, 3.6), 32, 3, (256, 320, 20), 2, (6, 6, 2), id="Task05 3D"),
        pytest.param((319, 320, 20), (0.625, 0.625), 32, 3, (320, 320, 1), 32, (6, 6), id="Task05 2D"),
        pytest.param((320, 320, 24), (0.61, 0.61, 2.2), 50, 2, (256, 320, 24), 2, (6, 6, 2), id="PROMISE12 3D"),
        pytest.param((320, 320, 24), (0.61, 0.61), 50, 2, (320, 320, 1), 32, (6, 6), id="PROMISE12 2D"),
    ],
)
def test_published_plans_are_reproduced(
    median: tuple[int, int, int],
    spacing: tuple[float, ...],
    cases: int,
    classes: int,
    patch: tuple[int, int, int],
    batch: int,
    pooled: tuple[int, ...],
) -> None:
    layout, size = nnunet_layout(median, spacing, cases, classes)
    assert (layout.patch, size, pools(layout.strides)) == (patch, batch, pooled)


def test_kernels_of_the_prostate_do_not_look_across_its_slices_in_the_first_two_stages() -> None:
    layout, _ = nnunet_layout((319, 320, 20), (0.625, 0.625, 3.6), 32, 3)
    assert [stage[2] for stage in layout.wide] == [False, False, True, True, True, True, True]
    assert nnunet_features(7, 3) == (32, 64, 128, 256, 320, 320, 320)
    assert nnunet_features(7, 2)[-1] == 512
