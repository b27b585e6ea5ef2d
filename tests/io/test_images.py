"""Pictures of every kind become RGB, or say in a sentence why not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError, UnavailableError
from napari_pathsam.io.images import as_rgb, read_labels, read_rgb, write_labels
from napari_pathsam.io.slides import open_slide


def picture(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def test_rgb_stays_the_same_array(rng: np.random.Generator) -> None:
    rgb = picture(rng, 5, 7, 3)
    assert as_rgb(rgb) is rgb or np.shares_memory(as_rgb(rgb), rgb)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0, 255]], np.uint8), [0, 255]),
        (np.array([[False, True]]), [0, 255]),
        (np.array([[0, 65535]], np.uint16), [0, 255]),
        (np.array([[0, 4095]], np.uint16), [0, 255]),  # 12 bits of a camera
        (np.array([[100, 200]], np.uint16), [100, 200]),  # 8 bits in a wider type
        (np.array([[0, 200]], np.int64), [0, 200]),
        (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[0.0, 0.2]]), [0, 51]),  # dark stays dark: contrast is not stretched
        (np.array([[0.0, 127.0, 255.0]], np.float32), [0, 127, 255]),
        (np.array([[-0.01, 1.02]]), [0, 255]),  # resampling overshoots
        (np.array([[np.nan, 0.0, np.inf, -np.inf]]), [255, 0, 255, 0]),  # no data is glass
        (np.array([[0.5]], np.float16), [128]),
    ],
)
def test_values(array: np.ndarray, expected: list[int]) -> None:
    rgb = as_rgb(array)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (*array.shape, 3)
    assert (rgb == np.array(expected)[None, :, None]).all()


def test_shapes(rng: np.random.Generator) -> None:
    rgb = picture(rng, 6, 9, 3)
    np.testing.assert_array_equal(as_rgb(np.moveaxis(rgb, -1, 0)), rgb)
    np.testing.assert_array_equal(as_rgb(rgb[None, None]), rgb)
    np.testing.assert_array_equal(as_rgb(rgb[..., :1]), np.repeat(rgb[..., :1], 3, axis=2))
    assert as_rgb(np.zeros((1, 1), np.uint8)).shape == (1, 1, 3)


def test_alpha_lies_on_white() -> None:
    rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [100, 100, 100, 128]]], np.uint8)
    assert as_rgb(rgba)[0, :, 0].tolist() == [255, 0, 177]
    np.testing.assert_array_equal(as_rgb(rgba.astype(np.uint16) * 257), as_rgb(rgba))
    np.testing.assert_array_equal(as_rgb(rgba / 255), as_rgb(rgba))
    assert as_rgb(rgba[..., 2:])[0, :, 0].tolist() == [255, 0, 177]  # grey and alpha


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((5, 0), np.uint8), "no pixels"),
        (np.zeros(7, np.uint8), "shape"),
        (np.zeros((9, 20, 30), np.uint8), "choose one plane"),
        (np.zeros((2, 3, 20, 30, 3), np.uint8), "choose one plane"),
        (np.full((4, 4), np.nan), "no finite value"),
        (np.array([[-2.0, 2.0]]), "below zero"),
        (np.array([[-500, 200]]), "below zero"),
        (np.array([["a", "b"]]), "type"),
        (np.zeros((3, 3), complex), "type"),
    ],
)
def test_what_is_no_picture(array: np.ndarray, said: str) -> None:
    with pytest.raises(BadImageError, match=said):
        as_rgb(array)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".tiff", ".gif"])
def test_files(suffix: str, rng: np.random.Generator, tmp_path: Path) -> None:
    rgb = picture(rng, 33, 21, 3)
    if suffix == ".gif":
        rgb[...] = 100
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(rgb).save(tmp_path / f"x{suffix}", **options)
    read, mpp = read_rgb(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(read, rgb)
    assert mpp is None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"])
def test_modes_of_pillow(mode: str, tmp_path: Path) -> None:
    value = 255 if mode == "1" else 200
    grey = Image.fromarray(np.full((8, 9), value, np.uint8))
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr", "F", "I") else "x.png")
    image = grey.convert("I").convert(mode) if mode == "I;16" else grey.convert(mode)
    image.save(path)
    if mode in ("CMYK", "YCbCr"):
        with pytest.raises(BadImageError, match="RGB is wanted"):
            read_rgb(path)
        return
    rgb, _ = read_rgb(path)
    assert (rgb == value).all()


def test_palette_and_inverted_tiff(tmp_path: Path) -> None:
    index = np.arange(6, dtype=np.uint8).reshape(2, 3)
    colors = np.zeros((3, 256), np.uint16)
    colors[0, :6] = np.arange(6) * 257 * 10
    tifffile.imwrite(tmp_path / "p.tif", index, photometric="palette", colormap=colors)
    rgb, _ = read_rgb(tmp_path / "p.tif")
    np.testing.assert_array_equal(rgb[..., 0], index * 10)
    assert (rgb[..., 1:] == 0).all()
    tifffile.imwrite(tmp_path / "i.tif", index, photometric="miniswhite")
    np.testing.assert_array_equal(read_rgb(tmp_path / "i.tif")[0][..., 0], 255 - index)


@pytest.mark.parametrize(
    ("resolution", "unit", "mpp"),
    [((72, 72), "INCH", None), ((96, 96), "INCH", None), ((20000, 20000), "CENTIMETER", 0.5),
     ((50800, 50800), "INCH", 0.5), ((40000, 20000), "CENTIMETER", 0.375)],
)  # fmt: skip
def test_resolution(
    resolution: tuple[int, int], unit: str, mpp: float | None, tmp_path: Path
) -> None:
    tifffile.imwrite(
        tmp_path / "x.tif", np.zeros((4, 5, 3), np.uint8), photometric="rgb",
        resolution=resolution, resolutionunit=unit,
    )  # fmt: skip
    assert read_rgb(tmp_path / "x.tif")[1] == (mpp and pytest.approx(mpp))


def test_imagej_resolution(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "x.tif", np.zeros((4, 5), np.uint8), imagej=True,
        resolution=(4, 4), metadata={"unit": "um"},
    )  # fmt: skip
    assert read_rgb(tmp_path / "x.tif")[1] == pytest.approx(0.25)


def test_16_bit_fields_of_a_slide_are_alike(tmp_path: Path) -> None:
    values = np.full((2000, 300, 3), 1000, np.uint16)
    values[900:1100] = 4000
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb", tile=(256, 256))
    with open_slide(tmp_path / "x.tif") as slide:
        from napari_pathsam.core.geometry import Region

        dark = slide.read(Region(0, 0, 10, 10))
        both = slide.read(Region(890, 0, 20, 10))
    assert (dark == round(1000 / 4095 * 255)).all()
    assert (both[:10] == dark).all()


def bad_files(folder: Path) -> dict[str, Path]:
    good = folder / "good.tif"
    tifffile.imwrite(good, np.zeros((64, 64, 3), np.uint8), photometric="rgb", tile=(16, 16))
    data = good.read_bytes()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        folder / "good.png"
    )
    files = {
        "cut.tif": data[: len(data) // 3],
        "head.tif": data[:8],
        "noise.tif": data[:8] + b"\xff" * 500,
        "cut.png": (folder / "good.png").read_bytes()[:500],
        "text.svs": b"404: Not Found\n",
        "text.tif": b"hello",
        "empty.png": b"",
        "bytes.jpg": bytes(range(256)),
        "text.ndpi": b"nothing",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "bad.zarr").mkdir()
    (folder / "bad.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"')
    (folder / "none.zarr").mkdir()
    (folder / "none.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    names = [*files, "folder", "bad.zarr", "none.zarr", "missing.png"]
    return {name: folder / name for name in names}


def test_bad_files_say_one_readable_thing(tmp_path: Path) -> None:
    for name, path in bad_files(tmp_path).items():
        with pytest.raises(BadFileError) as caught:
            read_rgb(path)
        said = str(caught.value)
        assert name in said
        assert "\n" not in said
        assert 40 < len(said) < 600


def test_a_text_file_named_svs(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_text("not a slide")
    with pytest.raises(BadFileError, match="text"):
        open_slide(tmp_path / "a.svs")


def test_a_slide_that_needs_openslide_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    (tmp_path / "a.mrxs").write_bytes(bytes(range(256)))
    with pytest.raises(UnavailableError, match="pip install openslide-python"):
        open_slide(tmp_path / "a.mrxs")
    # Of these tifffile reads what OpenSlide would.
    rgb = np.full((64, 64, 3), 9, np.uint8)
    tifffile.imwrite(tmp_path / "a.scn", rgb, photometric="rgb", tile=(16, 16))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.scn")[0], rgb)


def test_a_damaged_tile_is_said_when_it_is_read(rng: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path, picture(rng, 5000, 4000, 3), photometric="rgb", tile=(512, 512), compression="zlib"
    )
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages.first.dataoffsets[3]
    data = bytearray(path.read_bytes())
    data[offset : offset + 2000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(BadFileError, match="damaged"):
        read_rgb(path)


def test_too_large_is_said_before_it_is_read(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20)).save(tmp_path / "wide.png")
    with pytest.raises(BadImageError, match="16384 a side"):
        read_rgb(tmp_path / "wide.png")
    Image.new("1", (16_000, 16_000)).save(tmp_path / "bomb.png")
    with pytest.raises(BadImageError, match="too many"):
        read_rgb(tmp_path / "bomb.png")


def test_other_planes_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "z.tif", np.zeros((5, 40, 30), np.uint8), photometric="minisblack")
    with pytest.raises(BadImageError, match="one grey or RGB plane"):
        read_rgb(tmp_path / "z.tif")


# --- label images --------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [1, 200, 60_000, 100_000])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_labels_come_back(suffix: str, top: int, rng: np.random.Generator, tmp_path: Path) -> None:
    labels = rng.integers(0, top, (20, 31), endpoint=True)
    labels[0, 0] = top
    path = tmp_path / f"labels{suffix}"
    if suffix == ".png" and top > 65535:
        with pytest.raises(BadFileError, match=r"\.tif"):
            write_labels(path, labels, None)
        assert not list(tmp_path.iterdir())
        return
    write_labels(path, labels, None)
    np.testing.assert_array_equal(read_labels(path), labels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_class_colors_are_in_the_file(suffix: str, class_table: ClassTable, tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2]], np.uint8)
    path = tmp_path / f"x{suffix}"
    write_labels(path, labels, class_table)
    np.testing.assert_array_equal(read_labels(path), labels)
    rgb = read_rgb(path)[0]
    assert ["#" + bytes(pixel).hex() for pixel in rgb[0, 1:]] == [c.color for c in class_table]


def test_label_files_of_others(tmp_path: Path) -> None:
    labels = np.array([[0, 3], [255, 3]], np.uint8)
    for name in ("a.png", "a.bmp", "a.tif"):
        Image.fromarray(labels).save(tmp_path / name)
        np.testing.assert_array_equal(read_labels(tmp_path / name), labels)
    Image.fromarray(np.repeat(labels[..., None], 3, 2)).save(tmp_path / "grey_as_rgb.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "grey_as_rgb.png"), labels)
    tifffile.imwrite(tmp_path / "f.tif", labels.astype(np.float32))
    np.testing.assert_array_equal(read_labels(tmp_path / "f.tif"), labels)
    Image.fromarray(labels > 0).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "bit.png"), labels > 0)


def test_label_files_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    Image.fromarray(picture(rng, 5, 5, 3)).save(tmp_path / "rgb.png")
    with pytest.raises(BadImageError, match="colour picture"):
        read_labels(tmp_path / "rgb.png")
    tifffile.imwrite(tmp_path / "p.tif", np.array([[0.2, 0.7]]))
    with pytest.raises(BadImageError, match="fractions"):
        read_labels(tmp_path / "p.tif")
    with pytest.raises(BadFileError, match="no file"):
        read_labels(tmp_path / "none.png")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="could not be written"):
        write_labels(tmp_path / "missing" / "x.png", np.zeros((3, 3), int), None)
    with pytest.raises(BadFileError, match="written as"):
        write_labels(tmp_path / "x.jpg", np.zeros((3, 3), int), None)


def test_real_pictures(shared_data: Path) -> None:
    rgb, mpp = read_rgb(next((shared_data / "tnbc").rglob("*.webp")))
    assert rgb.shape == (512, 512, 3)
    assert mpp is None
    rgb, mpp = read_rgb(shared_data / "wsi" / "CMU-1-Small-Region.svs")
    assert rgb.shape == (2967, 2220, 3)
    assert mpp == pytest.approx(0.499)
