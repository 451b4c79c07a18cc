"""How slices lie to each other, from points alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.dicom.header import read_planes
from segpipe.dicom.layout import lay_out
from segpipe.dicom.library import quiet
from segpipe.dicom.plane import Plane
from tests.dicom.series import Series, turned


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Plane:
    made = Series(heights=[0.0]).write(tmp_path_factory.mktemp("one"))
    with quiet():
        return read_planes(made.paths[0])[0]


def planes(pattern: Plane, series: Series, decimals: int = 9) -> list[Plane]:
    orientation = tuple(float(x) for axis in series.axes for x in axis)
    points = [tuple(float(x) for x in point) for point in series.positions()]
    return [replace(pattern, position=p, orientation=orientation, spacing=series.spacing, decimals=decimals) for p in points]  # type: ignore[arg-type]


@settings(max_examples=60)
@given(st.tuples(*[st.floats(-180, 180)] * 3), st.floats(0.2, 10), st.integers(2, 40), st.randoms(use_true_random=False))
def test_even_slices_are_regular_in_any_direction_and_order(
    pattern: Plane, degrees: tuple[float, float, float], apart: float, count: int, random: object
) -> None:
    some = planes(pattern, Series(axes=turned(*degrees), heights=[apart * n for n in range(count)]))
    random.shuffle(some)  # type: ignore[attr-defined]
    layout = lay_out(some)
    assert layout.kind == "regular"
    assert layout.grid is not None
    assert layout.grid.spacing_mm[2] == pytest.approx(apart)
    for n, place in enumerate(layout.order):
        x, y, z = some[place].position or (0, 0, 0)
        assert np.allclose(layout.grid.world(np.array([0, 0, n])), (-x, -y, z), atol=1e-6)


@settings(max_examples=60)
@given(st.integers(4, 40), st.data())
def test_a_missing_slice_is_a_gap_wherever_it_is_missing(pattern: Plane, count: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(1, count - 2))
    layout = lay_out(planes(pattern, Series(heights=[3.0 * n for n in range(count) if n != lost])))
    assert layout.kind == "gap"
    assert layout.slots == tuple(n for n in range(count) if n != lost)
    assert f"1 between {layout.heights[lost - 1]:.2f} and {layout.heights[lost]:.2f} mm" in layout.what


@pytest.mark.parametrize(("degrees", "kind"), [(0.005, "regular"), (0.5, "regular"), (3.0, "tilted"), (25.0, "tilted")])
def test_a_stack_counts_as_tilted_from_half_a_pixel_on(degrees: float, kind: str, pattern: Plane) -> None:
    layout = lay_out(planes(pattern, Series(tilt=degrees)))
    assert layout.kind == kind
    assert layout.tilt_degrees == pytest.approx(degrees, abs=1e-6)


def test_copies_share_a_place(pattern: Plane) -> None:
    some = planes(pattern, Series(heights=[0, 2, 4, 6, 2, 2]))
    layout = lay_out(some)
    assert (layout.kind, layout.copies, layout.copied) == ("regular", 2, (pytest.approx(layout.heights[1]),))
    assert sorted(layout.places) == [0, 1, 1, 1, 2, 3]


def test_few_digits_allow_for_their_rounding_and_no_more(pattern: Plane) -> None:
    exact = Series(heights=[0.625 * n for n in range(20)], origin=(0, 0, 0))
    rounded = Series(heights=[round(0.625 * n, 1) for n in range(20)], origin=(0, 0, 0))
    assert lay_out(planes(pattern, exact)).kind == "regular"
    assert lay_out(planes(pattern, rounded, decimals=1)).kind == "regular"
    assert lay_out(planes(pattern, rounded, decimals=9)).kind == "variable"
