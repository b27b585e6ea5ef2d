"""Slides with something wrong in them, pixel sizes of every spelling, slides on another machine."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import numpy as np
import pytest
import tifffile
import zarr

from napari_pathsam.core.errors import BadFileError, BadImageError, DamagedTileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io.pixel_sizes import keep_mpp, kept_mpp
from napari_pathsam.io.slides import ArraySlide, Slide, open_slide

BAD = Region(256, 128, 128, 128)
"""The tile that the damaged slides lack."""


def jpeg_tiff(folder: Path, pixels: np.ndarray) -> Path:
    path = folder / "jpeg.tif"
    tifffile.imwrite(
        path, pixels, tile=(128, 128), compression="jpeg", photometric="rgb", metadata=None,
        compressionargs={"level": 95},
    )  # fmt: skip
    return path


def damaged(kind: str, files: ModuleType, folder: Path) -> Slide:
    if kind == "jpeg":
        return open_slide(files.without_tile(jpeg_tiff(folder, files.picture()), BAD))
    if kind == "aperio":
        return open_slide(files.without_tile(files.aperio(folder), BAD))
    if kind == "openslide":
        pytest.importorskip("openslide", reason="OpenSlide is not installed")
        from napari_pathsam.io._openslide import open_openslide

        return open_openslide(files.without_tile(files.pyramidal_tiff(folder), BAD))
    path = files.ngff(folder, "0.5", channels_last=True)
    (path / "0" / "c" / "2" / "1" / "0").write_bytes(b"not zstd")
    return open_slide(path)


@pytest.mark.parametrize("kind", ["jpeg", "aperio", "openslide", "zarr"])
def test_a_damaged_tile_is_named_and_the_rest_is_read(
    kind: str, slide_files: ModuleType, tmp_path: Path
) -> None:
    picture = slide_files.picture()
    with damaged(kind, slide_files, tmp_path) as slide:
        region = Region(200, 100, 300, 250)
        with pytest.raises(
            DamagedTileError, match=r"row \d+, column \d+ .* could not be"
        ) as caught:
            slide.read(region)
        # OpenSlide keeps to its own tiles of 128 here, too.
        assert caught.value.regions == (BAD,)
        assert caught.value.pixels is not None
        expected = picture.copy()
        expected[BAD.slices] = 255
        error = np.abs(caught.value.pixels.astype(int) - expected[region.slices])
        assert error.mean() < 1.5
        assert error.max() < (60 if kind == "jpeg" else 1)
        with pytest.raises(DamagedTileError) as caught:
            slide.read_resampled(region, (290, 240))
        assert caught.value.pixels is not None
        assert caught.value.pixels.shape == (290, 240, 3)
        sound = Region(0, 0, 250, 500)  # and goes on
        assert np.abs(slide.read(sound).astype(int) - picture[sound.slices]).mean() < 1.5
        if slide.stored_levels > 1:
            assert slide.read(region, level=1).shape == (150, 125, 3)


def test_damage_found_by_a_worker_is_told_at_home(slide_files: ModuleType, tmp_path: Path) -> None:
    """Not every decoder's own error can be sent, and Dask sends causes along."""
    pytest.importorskip("distributed", reason="Dask's workers are not installed")
    with (
        damaged("aperio", slide_files, tmp_path) as slide,
        pytest.raises(DamagedTileError) as caught,
    ):
        slide.read(BAD)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.regions == (BAD,)
    assert str(again) == str(caught.value)


def test_a_slide_without_its_first_tile_is_opened(slide_files: ModuleType, tmp_path: Path) -> None:
    first = Region(0, 0, 128, 128)
    with open_slide(slide_files.without_tile(slide_files.pyramidal_tiff(tmp_path), first)) as slide:
        with pytest.raises(DamagedTileError) as caught:
            slide.read(Region(-9, 100, 300, 300))
        assert caught.value.regions == (first,)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["pyramidal_tiff", "ome_tiff_subifds", "aperio"])
def test_a_truncated_tiff_is_refused(
    kind: str, kept: float, slide_files: ModuleType, tmp_path: Path
) -> None:
    path = getattr(slide_files, kind)(tmp_path)
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(BadFileError, match=r"cut off|could not be read") as caught:
        open_slide(path)
    assert "opy" in str(caught.value)  # what to do
    assert "\n" not in str(caught.value)


def test_a_tiff_without_its_last_bytes_is_whole_or_refused(
    slide_files: ModuleType, tmp_path: Path
) -> None:
    """The label of an SVS comes last: the slide itself may be read, its label not."""
    path = slide_files.aperio(tmp_path)
    os.truncate(path, path.stat().st_size - 20)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(Region.of(slide.shape_yx)), slide_files.picture())
        with pytest.raises(BadFileError, match="could not be read"):
            slide.read_associated("macro")


@pytest.mark.parametrize("kind", ["hamamatsu_ndpi", "leica", "ventana", "mirax", "philips"])
def test_a_truncated_scanner_file_is_an_error_not_a_picture(
    kind: str, slide_files: ModuleType, tmp_path: Path
) -> None:
    pytest.importorskip("openslide", reason="OpenSlide is not installed")
    path = getattr(slide_files, kind)(tmp_path)
    cut = tmp_path / "mirax" / "Data0000.dat" if kind == "mirax" else path
    os.truncate(cut, cut.stat().st_size // 3)
    with pytest.raises(BadFileError), open_slide(path) as slide:
        slide.read(Region.of(slide.shape_yx))


def test_an_ome_zarr_that_goes_is_no_empty_slide(slide_files: ModuleType, tmp_path: Path) -> None:
    path = slide_files.ngff(tmp_path, "0.5")
    with open_slide(path) as slide:
        slide.read(Region(0, 0, 100, 100))
        shutil.rmtree(path)
        with pytest.raises(BadFileError, match="is gone") as caught:
            slide.read(Region(300, 300, 100, 100))
        assert not isinstance(caught.value, DamagedTileError)
        with pytest.raises(BadFileError, match="is gone"):
            slide.pyramid()[0][:9, :9].compute()


@pytest.mark.parametrize("kind", ["pyramidal_tiff", "mirax"])
def test_a_slide_that_is_overwritten_is_not_read_as_damaged(
    kind: str, slide_files: ModuleType, tmp_path: Path
) -> None:
    if kind == "mirax":
        pytest.importorskip("openslide", reason="OpenSlide is not installed")
    path = getattr(slide_files, kind)(tmp_path)
    with open_slide(path) as slide:
        slide.read(Region(0, 0, 10, 10))
        shutil.rmtree(tmp_path / "mirax", ignore_errors=True)
        path.write_bytes(b"the disk was taken away")
        with pytest.raises(BadFileError, match="is gone, or another file") as caught:
            slide.read(Region(300, 300, 300, 100))
        assert not isinstance(caught.value, DamagedTileError)


# --- pixel sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "unit", "mpp"),
    [(250, "nm", 0.25), (0.25, "µm", 0.25), (0.25, None, 0.25), (2.5e-4, "mm", 0.25),
     (2.5e-5, "cm", 0.25), (2500, "Å", 0.25), (0.25, "pixel", None),
     (0.25, "reference frame", None), (0, "µm", None),
     ("NaN", "µm", None), (1e6, "µm", None), (-0.5, "µm", None)],
)  # fmt: skip
def test_units_of_ome_xml(
    size: float | str, unit: str | None, mpp: float | None, tmp_path: Path
) -> None:
    about = {f"PhysicalSize{a}": size for a in "XY"}
    if unit is not None:
        about |= {f"PhysicalSize{a}Unit": unit for a in "XY"}
    tifffile.imwrite(tmp_path / "x.ome.tif", np.zeros((9, 9, 3), np.uint8), metadata=about,
                     photometric="rgb")  # fmt: skip
    with open_slide(tmp_path / "x.ome.tif") as slide:
        assert slide.mpp == (mpp and pytest.approx(mpp, rel=1e-3))


@pytest.mark.parametrize(
    ("said", "mpp"),
    [("MPP = 0.2528", 0.2528), ("MPP=0.5", 0.5), ("MPP = 0", None), ("MPP = nan", None),
     ("MPP = 1e6", None), ("MPP = 0.00001", None), ("MPP = half", None), ("AppMag = 40", None)],
)  # fmt: skip
def test_pixel_size_of_aperio(said: str, mpp: float | None, tmp_path: Path) -> None:
    about = f"Aperio Image Library v11.2.1 \r\n9x9 (128x128) |{said}"
    tifffile.imwrite(tmp_path / "x.svs", np.zeros((9, 9, 3), np.uint8), description=about,
                     tile=(128, 128), photometric="rgb", metadata=None)  # fmt: skip
    with open_slide(tmp_path / "x.svs") as slide:
        assert slide.mpp == mpp


@pytest.mark.parametrize(
    ("unit", "step", "mpp"),
    [("micrometer", 0.25, 0.5), ("nanometer", 250, 0.5), ("millimeter", 2.5e-4, 0.5),
     (None, 0.25, None), ("micrometer", 0, None), ("micrometer", 1e6, None)],
)  # fmt: skip
def test_units_of_ome_zarr(
    unit: str | None, step: float, mpp: float | None, slide_files: ModuleType, tmp_path: Path
) -> None:
    path = slide_files.ngff(tmp_path, "0.5")
    group = zarr.open_group(path)
    about = dict(group.attrs["ome"])
    image = about["multiscales"][0]
    for axis in image["axes"][2:]:
        axis.pop("unit")
        if unit is not None:
            axis["unit"] = unit
    image["datasets"][0]["coordinateTransformations"][0]["scale"][2:] = [step, step]
    group.attrs["ome"] = about
    with open_slide(path) as slide:
        assert slide.mpp == (mpp and pytest.approx(mpp))


@pytest.mark.parametrize("mpp", [0.0, float("nan"), 1e6, -0.5, float("inf")])
def test_absurd_pixel_sizes_are_refused(mpp: float, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)
    with pytest.raises(BadImageError, match="no pixel size"):
        ArraySlide(pixels, mpp=mpp)
    with pytest.raises(BadFileError, match="no pixel size"):
        keep_mpp("0" * 32, mpp)
    assert kept_mpp("0" * 32) is None


def test_a_pixel_size_told_once_is_kept(slide_files: ModuleType, tmp_path: Path) -> None:
    path = jpeg_tiff(tmp_path, slide_files.picture())
    with open_slide(path) as slide:
        assert slide.mpp is None
        keep_mpp(slide.identity, 0.31)
    shutil.copy(path, tmp_path / "copy.tif")
    with open_slide(tmp_path / "copy.tif") as slide:
        assert slide.mpp == 0.31
        identity = slide.identity
    with open_slide(slide_files.pyramidal_tiff(tmp_path)) as slide:
        keep_mpp(slide.identity, 3.0)
    with open_slide(tmp_path / "pyramid.tif") as slide:
        assert slide.mpp == pytest.approx(0.5)  # what the file says comes first
    keep_mpp(identity, None)
    with open_slide(path) as slide:
        assert slide.mpp is None


# --- another machine -----------------------------------------------------------------------------


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    pytest.importorskip("aiohttp", reason="aiohttp, by which addresses are read, is not installed")
    found = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    thread = Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_at_an_address(
    version: str, server: ThreadingHTTPServer, slide_files: ModuleType, tmp_path: Path
) -> None:
    path = slide_files.ngff(tmp_path, version)
    address = f"http://127.0.0.1:{server.server_port}/{path.name}"
    with open_slide(Path(address)) as far, open_slide(path) as near:  # as the command line does
        assert (far.name, far.path, far.mpp) == (path.name, None, near.mpp)
        assert far.level_shapes == near.level_shapes
        assert far.identity == near.identity
        region = Region(190, 60, 300, 200)
        np.testing.assert_array_equal(far.read(region), near.read(region))
        server.shutdown()
        server.server_close()
        with pytest.raises(BadFileError, match="is gone"):
            far.read(Region(500, 300, 100, 100))
    with pytest.raises(BadFileError, match="Check the address"):
        open_slide(address)


def test_a_wrong_address_is_said(server: ThreadingHTTPServer) -> None:
    with pytest.raises(BadFileError, match="Check the address"):
        open_slide(f"http://127.0.0.1:{server.server_port}/nothing.zarr")
