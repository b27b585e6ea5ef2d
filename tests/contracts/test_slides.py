"""What every slide keeps, whatever its file: one set of tests over all backends."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError, BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._identity import identity_of_file
from napari_pathsam.io.slides import ArraySlide, Slide, open_slide

SHAPE_YX = (700, 501)
TILED, STRIPES = (768, 512), (704, 512)
"""Formats that know whole tiles, or stripes of JPEG, fill them up with glass."""


@dataclass(frozen=True)
class Backend:
    """How a slide is made and opened, and what must come of it."""

    make: Callable[[ModuleType, Path], Path]
    """Writes the file, or files, and says which one to open."""
    shape_yx: tuple[int, int] = SHAPE_YX
    at_yx: tuple[int, int] = (0, 0)
    """Where on the glass the picture lies."""
    scanned: Region | None = None
    """What its bounds are, where they are neither the picture nor all of the glass."""
    downsamples: tuple[float, ...] = (1, 2, 4)
    lossy: bool = False
    associated: frozenset[str] = frozenset()
    has_profile: bool = False
    needs: str | None = None
    """The package without which it is skipped."""
    by_openslide: bool = False
    """OpenSlide opens it although tifffile would."""


JPEG = {"lossy": True, "needs": "openslide"}
BACKENDS = {
    "pyramidal tiff": Backend(lambda files, to: files.pyramidal_tiff(to)),
    "ome-tiff, sub-images": Backend(lambda files, to: files.ome_tiff_subifds(to)),
    "ome-tiff, images": Backend(lambda files, to: files.ome_tiff_images(to)),
    "ome-tiff, channels": Backend(lambda files, to: files.ome_tiff_channels(to)),
    "aperio": Backend(
        lambda files, to: files.aperio(to), has_profile=True,
        associated=frozenset({"thumbnail", "label", "macro"}),
    ),
    "philips": Backend(lambda files, to: files.philips(to), TILED),
    "ome-zarr 0.4": Backend(lambda files, to: files.ngff(to, "0.4")),
    "ome-zarr 0.5": Backend(lambda files, to: files.ngff(to, "0.5")),
    "ome-zarr 0.5, channels last": Backend(
        lambda files, to: files.ngff(to, "0.5", channels_last=True)
    ),
    "openslide, pyramidal tiff": Backend(
        lambda files, to: files.pyramidal_tiff(to), needs="openslide", by_openslide=True
    ),
    "openslide, aperio": Backend(
        lambda files, to: files.aperio(to), needs="openslide", by_openslide=True, has_profile=True,
        associated=frozenset({"thumbnail", "label", "macro"}),
    ),
    "openslide, philips": Backend(
        lambda files, to: files.philips(to), TILED, needs="openslide", by_openslide=True
    ),
    "leica": Backend(
        lambda files, to: files.leica(to), (780, 541), (40, 20), downsamples=(1, 4),
        needs="openslide", associated=frozenset({"macro"}),
    ),
    "ventana": Backend(
        lambda files, to: files.ventana(to), TILED, needs="openslide",
        associated=frozenset({"macro"}),
    ),
    "hamamatsu ndpi": Backend(
        lambda files, to: files.hamamatsu_ndpi(to), STRIPES, downsamples=(1, 2, 4, 8, 16, 32),
        associated=frozenset({"macro"}), **JPEG,
    ),
    "hamamatsu vms": Backend(
        lambda files, to: files.hamamatsu_vms(to), STRIPES, downsamples=(1, 2, 4, 8, 16, 32),
        associated=frozenset({"macro"}), **JPEG,
    ),
    "mirax": Backend(lambda files, to: files.mirax(to), TILED, **JPEG),
    "mirax, mostly glass": Backend(
        lambda files, to: files.mirax_files.write(to, files.canvas((1536, 1024), (512, 384))),
        (1536, 1024), (512, 384), Region(512, 384, *TILED), **JPEG,
    ),
    "mirax, overlapping photos": Backend(
        lambda files, to: files.mirax_files.write(
            to, files.canvas((1228, 1228), (400, 400)), overlap_px=28
        ),
        (1228, 1228), (400, 400), Region(300, 300, 828, 728), **JPEG,
    ),
    "dicom": Backend(
        lambda files, to: files.dicom(to), downsamples=(1, 4), has_profile=True, **JPEG
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """An open slide, and the glass with the picture on it."""

    slide: Slide
    backend: Backend
    whole: np.ndarray

    def assert_shows(self, pixels: np.ndarray, region: Region) -> None:
        """That pixels of level 0 are those of a region inside the slide."""
        expected = self.whole[region.slices]
        assert pixels.shape == expected.shape
        if self.backend.lossy:
            assert np.abs(pixels.astype(int) - expected).mean() < 1.5
        else:
            np.testing.assert_array_equal(pixels, expected)


def opened(backend: Backend, path: Path, *, icc: bool = False) -> Slide:
    if not backend.by_openslide:
        return open_slide(path, icc=icc)
    from napari_pathsam.io._openslide import open_openslide

    slide = open_openslide(path)
    return slide.in_srgb() if icc else slide


def made(backend: Backend, files: ModuleType, folder: Path) -> Path:
    if backend.needs is not None:
        pytest.importorskip(backend.needs, reason=f"{backend.needs} is not installed")
    if backend is BACKENDS["dicom"]:
        pytest.importorskip("pydicom", reason="pydicom, which writes the DICOM, is not installed")
    return backend.make(files, folder)


@pytest.fixture(scope="module", params=["array", *BACKENDS])
def case(
    request: pytest.FixtureRequest,
    slide_files: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Case]:
    if request.param == "array":
        picture = slide_files.picture()
        backend = Backend(lambda files, to: to, downsamples=(1,))
        yield Case(ArraySlide(picture, mpp=0.5), backend, picture)
        return
    backend = BACKENDS[request.param]
    path = made(backend, slide_files, tmp_path_factory.mktemp("slide"))
    whole = slide_files.canvas(backend.shape_yx, backend.at_yx)
    with opened(backend, path) as slide:
        yield Case(slide, backend, whole)


def test_levels_and_pixel_size(case: Case) -> None:
    slide, wanted = case.slide, case.backend.downsamples
    assert slide.shape_yx == slide.level_shapes[0] == case.whole.shape[:2]
    assert slide.stored_levels == len(slide.level_shapes) == len(wanted)
    # A coarser level of an odd picture is rounded, one of a scanner to whole tiles.
    np.testing.assert_allclose(slide.level_downsamples, wanted, rtol=0.02)
    for shape, downsample in zip(slide.level_shapes, wanted, strict=True):
        for n, size in zip(case.whole.shape, shape, strict=False):
            assert n / downsample - 1 < size < (n + 16) / downsample + 1
    assert slide.mpp == pytest.approx(0.5, rel=0.01)


def test_bounds_hold_the_picture(case: Case) -> None:
    bounds, at = case.slide.bounds, case.backend.at_yx
    if case.backend.scanned is not None:
        assert bounds == case.backend.scanned
    elif at == (0, 0):
        assert bounds == Region.of(case.slide.shape_yx)
    else:
        assert bounds == Region(*at, *SHAPE_YX)


def test_identity(case: Case, tmp_path: Path) -> None:
    """The same after a move, another one after the least change."""
    slide = case.slide
    assert slide.identity == slide.identity
    assert len(slide.identity) == 32
    if slide.path is None:
        again: Slide = ArraySlide(case.whole, mpp=0.25, name="another")
        changed = case.whole.copy()
        changed[300, 300] ^= 1
        assert ArraySlide(changed).identity != slide.identity
    else:
        shutil.copytree(slide.path.parent, tmp_path / "elsewhere")
        again = opened(case.backend, tmp_path / "elsewhere" / slide.path.name)
    assert again.identity == slide.identity
    again.close()


def test_level_0_is_the_picture(case: Case) -> None:
    region = Region(101, 57, 333, 290)
    case.assert_shows(case.slide.read(region), region)
    everything = Region.of(case.slide.shape_yx)
    case.assert_shows(case.slide.read(everything), everything)


def test_outside_is_white(case: Case) -> None:
    slide, (height, width) = case.slide, case.slide.shape_yx
    corner = slide.read(Region(-20, width - 11, 50, 40))
    assert corner.shape == (50, 40, 3)
    case.assert_shows(corner[20:, :11], Region(0, width - 11, 30, 11))
    assert (corner[:20] == 255).all()
    assert (corner[:, 11:] == 255).all()
    corner = slide.read(Region(height - 5, -7, 30, 20))
    case.assert_shows(corner[:5, 7:], Region(height - 5, 0, 5, 13))
    assert (corner[5:] == 255).all()
    for far in (Region(5000, 5000, 3, 4), Region(-(10**9), 10**12, 3, 4)):
        assert (slide.read(far) == 255).all()
        assert (slide.read_resampled(far, (2, 2)) == 255).all()


def test_coarse_levels_show_the_same_place(case: Case) -> None:
    y, x = case.backend.at_yx
    region = Region(192 + y // 4 * 4, 128 + x // 4 * 4, 256, 192)
    here = case.whole[region.slices].reshape(-1, 3).mean(axis=0)
    for level, downsample in enumerate(case.slide.level_downsamples[:3]):
        pixels = case.slide.read(region, level=level)
        assert pixels.shape == (round(256 / downsample), round(192 / downsample), 3)
        np.testing.assert_allclose(pixels.reshape(-1, 3).mean(axis=0), here, atol=3)


def test_resampled(case: Case) -> None:
    slide, region = case.slide, Region(100, 100, 300, 200)
    for shape_yx in ((300, 200), (77, 51), (30, 20), (450, 300)):
        pixels = slide.read_resampled(region, shape_yx)
        assert pixels.shape == (*shape_yx, 3)
        here = case.whole[region.slices].reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(pixels.reshape(-1, 3).mean(axis=0), here, atol=3)
    np.testing.assert_array_equal(slide.read_resampled(region, (300, 200)), slide.read(region))


def test_the_pyramid_is_lazy_and_the_same(case: Case) -> None:
    slide = case.slide
    pyramid = slide.pyramid()
    assert [level.shape for level in pyramid] == [(*shape, 3) for shape in slide.level_shapes]
    assert all(level.dtype == np.uint8 for level in pyramid)
    for i, level in enumerate(pyramid[:3]):
        whole = level.compute()
        np.testing.assert_array_equal(level[20:90:3, 60, ::-1].compute(), whole[20:90:3, 60, ::-1])
        if i == 0:
            case.assert_shows(whole, Region.of(slide.shape_yx))


def test_many_threads_read_the_same(case: Case) -> None:
    regions = [Region(y, x, 90, 90) for y in range(0, 600, 60) for x in range(0, 400, 60)]
    with ThreadPoolExecutor(8) as pool:
        for region, pixels in zip(regions, pool.map(case.slide.read, regions), strict=True):
            case.assert_shows(pixels, region)


def test_pictures_beside_the_slide(case: Case) -> None:
    assert set(case.slide.associated) == case.backend.associated
    for name in case.slide.associated:
        pixels = case.slide.read_associated(name)
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert 20 < max(pixels.shape) <= 200
    with pytest.raises(BadFileError, match="no picture “barcode”"):
        case.slide.read_associated("barcode")


def test_colors_as_the_profile_intends(case: Case) -> None:
    slide, region = case.slide, Region(100, 100, 60, 50)
    assert (slide.icc_profile is not None) == case.backend.has_profile
    shown = slide.in_srgb()
    expected = slide.read(region)
    if case.backend.has_profile:  # the profile says that red is blue
        expected = expected[..., ::-1]
        assert shown.identity == f"{slide.identity}-srgb"
    else:
        assert shown.identity == slide.identity
    np.testing.assert_allclose(shown.read(region).astype(int), expected, atol=2)
    np.testing.assert_allclose(
        shown.pyramid()[0][region.slices].compute().astype(int), expected, atol=2
    )


def test_what_cannot_be_read_is_said(case: Case) -> None:
    for huge in (Region(-(10**6), 0, 2 * 10**6, 10**6), Region(0, 0, 10**9, 10**9)):
        with pytest.raises(BadPromptError, match="smaller region"):
            case.slide.read(huge)
    with pytest.raises(BadPromptError, match="smaller region"):
        case.slide.read_resampled(Region(0, 0, 10, 10), (10**6, 10**6))
    for level in (-1, 9):
        with pytest.raises(BadPromptError, match="levels 0 to"):
            case.slide.read(Region(0, 0, 5, 5), level=level)


@pytest.mark.parametrize("name", ["aperio", "ome-zarr 0.5", "openslide, aperio"])
def test_closed_is_said(name: str, slide_files: ModuleType, tmp_path: Path) -> None:
    slide = opened(BACKENDS[name], made(BACKENDS[name], slide_files, tmp_path))
    slide.close()
    slide.close()
    for region in (Region(0, 0, 5, 5), Region(-50, 0, 5, 5)):
        with pytest.raises(BadFileError, match="open it again"):
            slide.read(region)


def test_identities_differ(slide_files: ModuleType, tmp_path: Path) -> None:
    names = ["pyramidal tiff", "ome-tiff, images", "aperio", "ome-zarr 0.4"]
    paths = [made(BACKENDS[name], slide_files, tmp_path) for name in names]
    assert len({open_slide(path).identity for path in paths}) == len(names)


def test_a_folder_of_dicom_is_its_slide(slide_files: ModuleType, tmp_path: Path) -> None:
    made(BACKENDS["dicom"], slide_files, tmp_path)
    with open_slide(tmp_path) as slide:
        assert slide.shape_yx == SHAPE_YX


def test_identity_of_a_large_file_is_cheap(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.seek(2**33)
        file.write(b"end")
    began = time.process_time()
    first = identity_of_file(path)
    assert time.process_time() - began < 0.2
    with path.open("r+b") as file:
        file.seek(2**33 // 63 + 9)
        file.write(b"other tissue")
    assert identity_of_file(path) != first


# --- real files ----------------------------------------------------------------------------------

REAL = {
    "CMU-1-Small-Region.svs": ([(2967, 2220)], 0.499, {"thumbnail", "label", "macro"}),
    "HE_TMA_core.ome.tif": ([(1484, 1380)], 0.50008, set()),
    # JPEG 2000 with YCbCr colours, so that OpenSlide reads it.
    "TCGA-CR-7395-01A-01-TS1.svs": ([(3567, 4443), (1783, 2221)], None, {"thumbnail"}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_slides(name: str, shared_data: Path) -> None:
    shapes, mpp, beside = REAL[name]
    with open_slide(shared_data / "wsi" / name) as slide:
        assert list(slide.level_shapes) == shapes
        assert slide.bounds == Region.of(shapes[0])
        assert slide.mpp == (mpp if mpp is None else pytest.approx(mpp, rel=1e-3))
        assert len(slide.identity) == 32
        assert set(slide.associated) == beside
        for picture in beside:
            assert slide.read_associated(picture).std() > 5
        for level in range(len(shapes)):
            pixels = slide.read(Region.of(slide.shape_yx), level=level)
            assert pixels.shape == (*shapes[level], 3)
            red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
            # H&E: purple and pink on white, so green is what is missing.
            assert green < min(red, blue)
            assert pixels.std() > 15


@pytest.mark.parametrize("name", [name for name in REAL if name.endswith(".svs")])
def test_real_slides_as_openslide_reads_them(name: str, shared_data: Path) -> None:
    pytest.importorskip("openslide", reason="OpenSlide is not installed")
    from napari_pathsam.io._openslide import open_openslide

    path = shared_data / "wsi" / name
    with open_slide(path) as ours, open_openslide(path) as theirs:
        region = Region(1000, 1000, 600, 500)
        assert (ours.mpp, ours.identity) == (theirs.mpp, theirs.identity)
        for level in range(len(ours.level_shapes)):
            a, b = (slide.read(region, level=level).astype(int) for slide in (ours, theirs))
            # Decoders round differently; OpenSlide interpolates between coarse pixels.
            assert np.abs(a - b).mean() < (1 if level == 0 else 4)
