"""``pathsam segment``: every format says the same, inputs are safe, failures are readable."""

from __future__ import annotations

import csv
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import zarr
from PIL import Image
from scipy import ndimage

from napari_pathsam.cli import main
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.io.annotations import read_geojson
from napari_pathsam.io.images import read_labels
from napari_pathsam.models.pathsam import PathSam

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def image(tmp_path: Path, rng: np.random.Generator) -> Path:
    smooth = ndimage.gaussian_filter(rng.normal(size=(150, 110, 3)), (6, 6, 0))
    path = tmp_path / "in" / "field.png"
    path.parent.mkdir()
    Image.fromarray(np.clip(smooth * 900 + 128, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def segment(
    tiny_pathsam: PathSam, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    module = import_module("napari_pathsam.cli.segment")  # the package has a function of its name
    monkeypatch.setattr(module, "load", lambda *_: tiny_pathsam)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["segment", *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), " ".join(out.split()), " ".join(err.split())

    return run


def test_every_format_says_the_same(
    segment: Run, image: Path, tmp_path: Path, tiny_pathsam: PathSam
) -> None:
    pixels = np.asarray(Image.open(image))
    expected = segment_classes(tiny_pathsam, pixels, mpp=0.5)
    out = tmp_path / "out"
    kinds = ["--format", "png", "--format", "tif", "--format", "zarr", "--format", "geojson"]
    code, told, _ = segment(
        image, "--out", out, "--model", "m", "--mpp", 0.5, *kinds, "--instances",
        "--area", tmp_path / "area.csv",
    )  # fmt: skip
    assert code == 0
    assert "gland" in told
    for suffix in ("png", "tif"):
        assert (read_labels(out / f"field.{suffix}") == expected).all()
    objects = read_labels(out / "field_objects.tif")
    assert (zarr.open_group(out / "field.zarr", mode="r")["labels/classes/0"][:] == expected).all()
    drawn, classes, table = read_geojson(out / "field.geojson", expected.shape)
    assert (classes == expected).all()
    assert (drawn == objects).all()
    assert table == tiny_pathsam.classes
    palette = Image.open(out / "field.png").getpalette()
    assert palette is not None
    assert bytes(palette[3:6]).hex() == tiny_pathsam.classes[1].color[1:]
    rows = list(csv.DictReader((tmp_path / "area.csv").read_text().splitlines()))
    by_class = {row["class"]: row for row in rows}
    assert int(by_class["gland"]["px"]) == (expected == 1).sum()
    assert sum(int(r["objects"] or 0) for r in rows) == objects.max()
    n, tissue = int(by_class["gland"]["objects"]), float(by_class["gland"]["tissue_mm2"])
    assert 0 < tissue <= expected.size * 0.25e-6 * 1.001
    per_mm2 = float(by_class["gland"]["objects_per_mm2_of_tissue"])
    assert per_mm2 == pytest.approx(n / tissue, rel=1e-4)


def test_a_region_is_placed_where_it_was(segment: Run, image: Path, tmp_path: Path) -> None:
    where = ["--region", "20,10,90,70", "--model", "m", "--mpp", 0.5]
    assert segment(image, "--out", tmp_path / "r.png", *where)[0] == 0
    assert segment(image, "--out", tmp_path / "r.geojson", *where)[0] == 0
    part = read_labels(tmp_path / "r.png")
    assert part.shape == (70, 60)
    _, classes, _ = read_geojson(tmp_path / "r.geojson", (150, 110))
    assert (classes[20:90, 10:70] == part).all()
    assert not classes[90:].any()


def test_one_bad_image_does_not_stop_the_others(segment: Run, image: Path, tmp_path: Path) -> None:
    bad = tmp_path / "in" / "bad.png"
    bad.write_bytes(image.read_bytes()[:300])
    code, _, err = segment(bad, image, "--out", tmp_path / "out", "--model", "m", "--mpp", 0.5)
    assert code == 1
    assert "1 of 2 images" in err
    assert "bad.png" in err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"field.png", "manifest.csv"}


def test_without_a_pixel_size_it_is_asked_for(segment: Run, image: Path, tmp_path: Path) -> None:
    code, _, err = segment(image, "--out", tmp_path / "o.png", "--model", "m")
    assert code == 1
    assert "works at 0.5 µm per pixel" in err
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--out", "o.png"], "pathsam-nano:glands"),
        (["--out", "o.jpg", "--model", "m"], "must end in"),
        (["--out", "o.png", "--model", "m", "--region", "5,5,5,9"], "is not Y0,X0,Y1,X1"),
        (["--out", "o.png", "--model", "m", "--sharpen"], "needs --instances"),
        (["--out", "o.png", "--model", "m", "--format", "tif"], "for folders"),
        (["--out", "o.png", "--model", "m", "--threshold", "2"], "--threshold"),
    ],
)
def test_a_wrong_command_line_is_status_2(
    segment: Run, image: Path, arguments: list[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    code, _, err = segment(image, *arguments)
    assert code == 2
    assert why in " ".join(err.replace("│", " ").split())
    assert [p.name for p in image.parent.iterdir()] == ["field.png"]


def test_images_are_never_overwritten(segment: Run, image: Path, tmp_path: Path) -> None:
    before = image.read_bytes()
    other = tmp_path / "other" / "field.png"
    other.parent.mkdir()
    other.write_bytes(before)
    for arguments in ([image, "--out", image], [image, "--out", image.parent],
                      [image, other, "--out", tmp_path / "x"],
                      [image, other, "--out", tmp_path / "x.png"]):  # fmt: skip
        assert segment(*arguments, "--model", "m", "--mpp", 0.5)[0] == 2
    assert image.read_bytes() == before


def test_ctrl_c_leaves_the_older_file(
    segment: Run, image: Path, tmp_path: Path, tiny_pathsam: PathSam
) -> None:
    out = tmp_path / "out" / "o.png"
    out.parent.mkdir()
    out.write_bytes(b"older")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    tiny_pathsam.encode = interrupted  # type: ignore[assignment, method-assign]
    code, _, err = segment(image, "--out", out, "--model", "m", "--mpp", 0.5)
    assert code == 1
    assert "Stopped" in err
    assert [p.read_bytes() for p in out.parent.iterdir()] == [b"older"]


def test_a_pixel_size_it_was_not_made_for_is_told(
    segment: Run, image: Path, tmp_path: Path, tiny_pathsam: PathSam
) -> None:
    tiny_pathsam.config = tiny_pathsam.config.model_copy(update={"mpp_range": (0.4, 0.8)})
    code, _, err = segment(image, "--out", tmp_path / "o.png", "--model", "m", "--mpp", 1.5)
    assert code == 0
    assert "between 0.4 and 0.8" in err


@pytest.mark.slow
def test_colors_as_the_profile_intends(
    segment: Run, tmp_path: Path, tiny_pathsam: PathSam, slide_files: ModuleType
) -> None:
    """The profile says that red is blue; a picture without one stays as it is."""
    slide, mirrored = slide_files.aperio(tmp_path), slide_files.picture()[..., ::-1]
    plain = slide_files.pyramidal_tiff(tmp_path)
    for name, path, pixels in (("a", slide, mirrored), ("b", plain, slide_files.picture())):
        out = tmp_path / f"{name}.png"
        assert segment(path, "--out", out, "--model", "m", "--icc")[0] == 0
        expected = segment_classes(tiny_pathsam, np.ascontiguousarray(pixels), mpp=0.5)
        assert (read_labels(out) == expected).mean() > 0.97
    other = segment_classes(tiny_pathsam, slide_files.picture(), mpp=0.5)
    assert (read_labels(tmp_path / "a.png") == other).mean() < 0.97
