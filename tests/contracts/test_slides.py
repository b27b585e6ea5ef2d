"""What every slide keeps, whatever its file: one set of tests over all backends."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._identity import identity_of_file
from napari_pathsam.io.slides import ArraySlide, Slide, open_slide

SHAPE_YX = (700, 501)
TILE = {"tile": (128, 128), "compression": "zlib", "photometric": "rgb"}


def picture() -> np.ndarray:
    """Smooth, so that coarse levels resemble it; each corner another colour."""
    y, x = np.mgrid[0 : SHAPE_YX[0], 0 : SHAPE_YX[1]]
    return np.stack([y * 255 // 699, x * 255 // 500, (x + y) * 255 // 1199], -1).astype(np.uint8)


def levels() -> list[np.ndarray]:
    finest = picture()
    return [finest, finest[: 2 * 350 : 2, : 2 * 250 : 2], finest[: 4 * 175 : 4, : 4 * 125 : 4]]


def pyramidal_tiff(folder: Path) -> Path:
    path = folder / "pyramid.tif"
    with tifffile.TiffWriter(path) as tif:
        for i, level in enumerate(levels()):
            resolution = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
            tif.write(level, subfiletype=int(i > 0), metadata=None, **resolution, **TILE)
    return path


def ome_tiff_subifds(folder: Path) -> Path:
    path = folder / "subifds.ome.tif"
    size = {f"PhysicalSize{a}": 500 for a in "XY"} | {f"PhysicalSize{a}Unit": "nm" for a in "XY"}
    finest, *coarser = levels()
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(finest, subifds=2, metadata={"axes": "YXS", **size}, **TILE)
        for level in coarser:
            tif.write(level, subfiletype=1, **TILE)
    return path


def ome_tiff_images(folder: Path) -> Path:
    path = folder / "images.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for level in levels():
            tif.write(
                level, metadata={"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, **TILE
            )
    return path


def ome_tiff_channels(folder: Path) -> Path:
    path = folder / "channels.ome.tif"
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    finest, *coarser = [np.moveaxis(level, -1, 0) for level in levels()]
    options = {"tile": (128, 128), "photometric": "minisblack"}
    with tifffile.TiffWriter(path) as tif:
        tif.write(finest, subifds=2, metadata=metadata, **options)
        for level in coarser:
            tif.write(level, subfiletype=1, **options)
    return path


def aperio(folder: Path) -> Path:
    path = folder / "aperio.svs"
    said = "Aperio Image Library v11.2.1 \r\n501x700 (128x128) |AppMag = 20|MPP = 0.5000"
    finest, *coarser = levels()
    with tifffile.TiffWriter(path) as tif:
        tif.write(finest, description=said, metadata=None, **TILE)
        tif.write(finest[::5, ::5], metadata=None, photometric="rgb", description="thumbnail")
        for level in coarser:
            tif.write(level, metadata=None, description="Aperio", **TILE)
    return path


def ngff(folder: Path, version: str, *, channels_last: bool = False) -> Path:
    path = folder / f"image-{version}-{channels_last}.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    for i, level in enumerate(levels()):
        data = level if channels_last else np.moveaxis(level, -1, 0)[None]
        chunks = (128, 128, 3) if channels_last else (1, 1, 128, 128)
        group.create_array(str(i), shape=data.shape, chunks=chunks, dtype=data.dtype)[...] = data
    space = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    channel = {"name": "c", "type": "channel"}
    axes = [*space, channel] if channels_last else [{"name": "t", "type": "time"}, channel, *space]

    def scale(i: int) -> list[float]:
        step = 0.25 * 2**i
        return [step, step, 1.0] if channels_last else [1.0, 1.0, step, step]

    multiscale: dict[str, Any] = {
        "axes": axes,
        "datasets": [
            {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale(i)}]}
            for i in range(3)
        ],
        # On top of each level's own: 0.25 · 2 = 0.5 µm.
        "coordinateTransformations": [
            {"type": "scale", "scale": [2.0, 2.0, 1.0] if channels_last else [1.0, 1.0, 2.0, 2.0]}
        ],
    }
    if version == "0.4":
        group.attrs["multiscales"] = [{"version": "0.4", **multiscale}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return path


def by_openslide(folder: Path) -> Slide:
    pytest.importorskip("openslide", reason="OpenSlide is not installed")
    from napari_pathsam.io._openslide import open_openslide

    return open_openslide(pyramidal_tiff(folder))


BACKENDS: dict[str, Callable[[Path], Slide]] = {
    "array": lambda folder: ArraySlide(picture(), mpp=0.5),
    "pyramidal tiff": lambda folder: open_slide(pyramidal_tiff(folder)),
    "ome-tiff, sub-images": lambda folder: open_slide(ome_tiff_subifds(folder)),
    "ome-tiff, images": lambda folder: open_slide(ome_tiff_images(folder)),
    "ome-tiff, channels": lambda folder: open_slide(ome_tiff_channels(folder)),
    "aperio": lambda folder: open_slide(aperio(folder)),
    "ome-zarr 0.4": lambda folder: open_slide(ngff(folder, "0.4")),
    "ome-zarr 0.5": lambda folder: open_slide(ngff(folder, "0.5")),
    "ome-zarr 0.5, channels last": lambda f: open_slide(ngff(f, "0.5", channels_last=True)),
    "openslide": by_openslide,
}  # fmt: skip


@pytest.fixture(scope="module", params=BACKENDS)
def slide(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Slide]:
    opened = BACKENDS[request.param](tmp_path_factory.mktemp("slide"))
    yield opened
    opened.close()


def test_levels_and_pixel_size(slide: Slide) -> None:
    assert slide.shape_yx == SHAPE_YX
    expected = [level.shape[:2] for level in levels()]
    if slide.name == "image":
        expected = expected[:1]
    elif slide.level_shapes[-1] != expected[-1]:  # OpenSlide takes no other
        expected = expected[: len(slide.level_shapes)]
    assert list(slide.level_shapes) == expected
    assert slide.stored_levels == len(expected)
    np.testing.assert_allclose(slide.level_downsamples, [1, 2, 4][: len(expected)], rtol=0.01)
    assert slide.mpp == pytest.approx(0.5)


def test_identity(slide: Slide, tmp_path: Path) -> None:
    """The same after a move, another one after the least change."""
    assert slide.identity == slide.identity
    assert len(slide.identity) == 32
    if slide.path is None:
        again = ArraySlide(picture(), mpp=0.25, name="another")
        changed = picture()
        changed[300, 300] ^= 1
        assert ArraySlide(changed).identity != slide.identity
    else:
        moved = tmp_path / f"moved{''.join(slide.path.suffixes[-2:])}"
        copy = shutil.copytree if slide.path.is_dir() else shutil.copy
        copy(slide.path, moved)
        again = open_slide(moved)
    assert again.identity == slide.identity
    again.close()


def test_identities_differ(tmp_path: Path) -> None:
    found = {make(Path(tempfile.mkdtemp(dir=tmp_path))).identity for make in BACKENDS.values()}
    # The three zarrs hold the same pixels in the same levels; OpenSlide reads the pyramidal TIFF.
    assert len(found) == len(BACKENDS) - 3


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


def test_level_0_is_the_picture(slide: Slide) -> None:
    region = Region(101, 57, 333, 290)
    np.testing.assert_array_equal(slide.read(region), picture()[region.slices])
    np.testing.assert_array_equal(slide.read(Region.of(SHAPE_YX)), picture())


def test_outside_is_white(slide: Slide) -> None:
    corner = slide.read(Region(-20, 490, 50, 40))
    assert corner.shape == (50, 40, 3)
    np.testing.assert_array_equal(corner[20:, :11], picture()[:30, 490:])
    assert (corner[:20] == 255).all()
    assert (corner[:, 11:] == 255).all()
    assert (slide.read(Region(5000, 5000, 3, 4)) == 255).all()


def test_coarse_levels_show_the_same_place(slide: Slide) -> None:
    region = Region(200, 100, 240, 160)
    here = picture()[region.slices].reshape(-1, 3).mean(axis=0)
    for level, downsample in enumerate(slide.level_downsamples):
        pixels = slide.read(region, level=level)
        assert pixels.shape == (round(240 / downsample), round(160 / downsample), 3)
        np.testing.assert_allclose(pixels.reshape(-1, 3).mean(axis=0), here, atol=2)


def test_resampled(slide: Slide) -> None:
    region = Region(100, 100, 300, 200)
    for shape_yx in ((300, 200), (77, 51), (30, 20), (450, 300)):
        pixels = slide.read_resampled(region, shape_yx)
        assert pixels.shape == (*shape_yx, 3)
        here = picture()[region.slices].reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(pixels.reshape(-1, 3).mean(axis=0), here, atol=2.5)
    np.testing.assert_array_equal(slide.read_resampled(region, (300, 200)), slide.read(region))


def test_the_pyramid_is_lazy_and_the_same(slide: Slide) -> None:
    pyramid = slide.pyramid()
    assert [level.shape for level in pyramid] == [(*shape, 3) for shape in slide.level_shapes]
    assert all(level.dtype == np.uint8 for level in pyramid)
    for i, level in enumerate(pyramid):
        whole = level.compute()
        np.testing.assert_array_equal(level[20:90:3, 60, ::-1].compute(), whole[20:90:3, 60, ::-1])
        if i == 0:
            np.testing.assert_array_equal(whole, picture())


def test_many_threads_read_the_same(slide: Slide) -> None:
    regions = [Region(y, x, 90, 90) for y in range(0, 600, 60) for x in range(0, 400, 60)]
    with ThreadPoolExecutor(8) as pool:
        for region, pixels in zip(regions, pool.map(slide.read, regions), strict=True):
            np.testing.assert_array_equal(pixels, picture()[region.slices])


@pytest.mark.parametrize("backend", ["array", "aperio", "ome-zarr 0.5"])
def test_closed_is_said(backend: str, tmp_path: Path) -> None:
    slide = BACKENDS[backend](tmp_path)
    slide.close()
    with pytest.raises(BadFileError, match="open it again"):
        slide.read(Region(0, 0, 5, 5))


# --- real files ----------------------------------------------------------------------------------

REAL = {
    "CMU-1-Small-Region.svs": ([(2967, 2220)], 0.499),
    "HE_TMA_core.ome.tif": ([(1484, 1380)], 0.50008),
    "TCGA-CR-7395-01A-01-TS1.svs": ([(3567, 4443), (1783, 2221)], None),  # JPEG 2000
}


@pytest.mark.parametrize("name", REAL)
def test_real_slides(name: str, shared_data: Path) -> None:
    shapes, mpp = REAL[name]
    with open_slide(shared_data / "wsi" / name) as slide:
        assert list(slide.level_shapes) == shapes
        assert slide.mpp == (mpp if mpp is None else pytest.approx(mpp, rel=1e-3))
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
        assert ours.mpp == theirs.mpp
        for level in range(len(ours.level_shapes)):
            a, b = (slide.read(region, level=level).astype(int) for slide in (ours, theirs))
            # Decoders round differently; OpenSlide interpolates between coarse pixels.
            assert np.abs(a - b).mean() < (1 if level == 0 else 4)
