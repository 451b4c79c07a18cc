"""Where the page takes voxels to lie, for every stored order, against nibabel."""

from __future__ import annotations

import base64
import gzip
import itertools
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.server.conftest import Server
from tests.server.page.browser import Page

_CODES = [
    "".join(ends) for order in itertools.permutations(("RL", "AP", "SI")) for ends in itertools.product(*order)
]  # the 48 ways to store a scan
_SCRIPT = """
    const nifti = await import("/static/nifti.js");
    const results = [];
    for (const [file, drawn] of arguments[0]) {
        const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
        const read = nifti.parse(await nifti.unpacked(bytes.buffer)), turn = nifti.orientation(read.affine);
        const shown = nifti.toRas(nifti.voxelsOf(read), read.dims, turn);
        shown.array[drawn] = 7;
        const saved = nifti.withVoxels(read, nifti.fromRas(shown.array, read.dims, turn));
        const back = new Uint8Array(await nifti.unpacked(await nifti.packed(saved)));
        results.push({ dims: read.dims, affine: read.affine, placed: read.placed, ras: [...shown.array], size: shown.dims,
            rasAffine: nifti.rasAffine(read.affine, read.dims, turn), saved: btoa(String.fromCharCode(...back)) });
    }
    return results;"""


def turned(degrees: tuple[float, float, float]) -> np.ndarray[Any, Any]:
    """A rotation by angles about x, y and z."""
    x, y, z = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return np.asarray(about_x @ about_y @ about_z)


def image(codes: str, kind: type, degrees: tuple[float, float, float], array_type: type = np.uint8) -> Any:
    rng = np.random.default_rng(sum(map(ord, codes)))
    affine = np.eye(4)
    affine[:3, :3] = turned(degrees) @ np.diag([1.5, 2.0, 3.25])
    affine[:3, 3] = rng.uniform(-90, 90, 3)
    array = rng.integers(0, 100, (5, 4, 3)).astype(array_type)
    start = nib.Nifti1Image(array, affine, dtype=array_type)
    wanted = nib.orientations.axcodes2ornt(tuple(codes))
    stored = start.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted))
    return kind(np.asarray(stored.dataobj), stored.affine, dtype=array_type)


def check(page: Page, server: Server, images: list[Any], packed: bool = False) -> None:
    """Ask the page for all of them at once, and draw one voxel into each."""
    page.open(server)
    contents = [one.to_bytes() for one in images]
    asked = [[base64.b64encode(gzip.compress(content) if packed else content).decode(), 31] for content in contents]
    for one, content, told in zip(images, contents, page.run(_SCRIPT, asked), strict=True):
        assert tuple(told["dims"]) == one.shape
        assert told["placed"]
        np.testing.assert_allclose(told["affine"], one.affine[:3], atol=1e-4)
        canonical = nib.as_closest_canonical(one)
        ras = np.array(told["ras"]).reshape(told["size"], order="F")
        truth = np.asarray(canonical.dataobj).copy()
        drawn = np.unravel_index(31, truth.shape, order="F")
        truth[drawn] = 7
        assert ras.shape == truth.shape
        assert (ras == truth).all()
        np.testing.assert_allclose(told["rasAffine"], canonical.affine[:3], atol=1e-4)
        place = np.rint((np.linalg.inv(one.affine) @ canonical.affine @ [*drawn, 1])[:3]).astype(int)
        expected = np.asarray(one.dataobj).copy()
        expected[tuple(place)] = 7
        saved = base64.b64decode(told["saved"])
        assert saved[:352] == content[:352]
        assert (np.asarray(type(one).from_bytes(saved).dataobj) == expected).all()


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (-14.0, 22.0, 17.0)], ids=["straight", "oblique"])
def test_all_48_stored_orders_are_shown_and_saved_as_nibabel_has_them(
    degrees: tuple[float, float, float], page: Page, server: Server
) -> None:
    assert len(set(_CODES)) == 48
    check(page, server, [image(codes, nib.Nifti1Image, degrees) for codes in _CODES], packed=True)


def test_types_versions_byte_orders_and_headers_with_a_quaternion_alone(page: Page, server: Server) -> None:
    images = [image("PIR", nib.Nifti1Image, (5.0, 0.0, 9.0), kind) for kind in (np.int16, np.uint16, np.int32, np.int64, np.float32)]
    images += [image(codes, nib.Nifti2Image, (5.0, 0.0, 9.0), np.int16) for codes in ("LPS", "SRA")]
    for codes in ("LAS", "IPL"):  # one of them is left-handed, which qfac says
        one = image(codes, nib.Nifti1Image, (12.0, -8.0, 3.0), np.int16)
        one.set_qform(one.affine, 1)
        one.set_sform(None, 0)
        images.append(one)
    for codes in ("LPS", "ASR"):
        one = image(codes, nib.Nifti1Image, (12.0, -8.0, 3.0), np.int16)
        for kind in (">i2", ">f4"):
            images.append(nib.Nifti1Image(np.asarray(one.dataobj).astype(kind), one.affine, nib.Nifti1Header(endianness=">"), dtype=kind))
    check(page, server, images)
