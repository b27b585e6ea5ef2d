"""``pathsam export`` of a slide's labels, and of outlines into labels."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.slides import open_slide

SHAPE = (80, 120)


@pytest.fixture
def run(tmp_path):
    ids = np.zeros(SHAPE, np.int32)
    ids[5:25, 5:35], ids[30:70, 60:110] = 4, 11
    for name, array in (("objects", ids), ("classes", np.where(ids > 4, 2, ids > 0))):
        store = LabelStore.create(
            tmp_path / "run.zarr", SHAPE, mpp=0.5, classes=ClassTable.of("gland", "stroma"),
            dtype=np.int32 if name == "objects" else np.uint8, name=name, chunk_px=32,
        )  # fmt: skip
        store.write(Region.of(SHAPE), array)
    return tmp_path / "run.zarr"


def test_there_and_back(pathsam, run, tmp_path):
    out, back = tmp_path / "o.geojson", tmp_path / "back.zarr"
    status, said, _ = pathsam("export", run, "--out", out, "--detections")
    assert (status, "2 outlines" in said) == (0, True)
    features = json.loads(out.read_text())["features"]
    assert {f["properties"]["objectType"] for f in features} == {"detection"}
    assert pathsam("export", out, "--out", back)[0] == 0
    for name in ("objects", "classes"):
        a, b = LabelStore.open(run, name), LabelStore.open(back, name)
        np.testing.assert_array_equal(a.read(Region.of(SHAPE)), b.read(Region.of(SHAPE)))
    status, _, error = pathsam("export", out, "--out", back)
    assert (status, "there already" in error) == (1, True)


def test_areas_tiff_and_tables(pathsam, run, tmp_path):
    assert pathsam("export", run, "--out", tmp_path / "c.geojson", "--labels", "classes")[0] == 0
    assert pathsam("export", run, "--out", tmp_path / "l.ome.tif", "--labels", "classes")[0] == 0
    classes = LabelStore.open(run).read(Region.of(SHAPE))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "l.ome.tif"), classes)
    for table in ("classes", "objects"):
        out = tmp_path / f"{table}.csv"
        assert pathsam("export", run, "--out", out, "--table", table)[0] == 0
        with out.open() as file:
            rows = list(csv.DictReader(file))
        assert [r["class"] for r in rows] == ["gland", "stroma"]
    assert rows[0]["area_px"] == "600"
    assert rows[1]["object"] == "11"


@pytest.fixture
def slide(tmp_path, rng):
    """Tissue on its left half, 1 µm per pixel."""
    shape = (1024, 1536)
    image = np.full((*shape, 3), 243, np.uint8)
    image[:, :768] = np.array((190, 110, 170)) + rng.integers(-20, 20, (1024, 768, 1))
    tifffile.imwrite(
        tmp_path / "s.tif", image, photometric="rgb", tile=(256, 256),
        resolution=(1e4, 1e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return tmp_path / "s.tif"


@pytest.fixture
def densities(pathsam, slide, tmp_path):
    """``of(**about) -> (status, row, error)``: a gland in its left upper eighth."""

    def of(shape=(1024, 1536), **made):
        store = LabelStore.create(
            tmp_path / "r.zarr", shape, **{"mpp": 1, "classes": ClassTable.of("gland"), **made}
        )
        store.write(Region(0, 0, 512, 384), np.ones((512, 384), np.uint8))
        out = tmp_path / "c.csv"
        status, _, error = pathsam("export", store.path, "--out", out, "--slide", slide)
        if status:
            assert not out.exists()
            return status, None, error
        with out.open() as file:
            return status, next(csv.DictReader(file)), error

    return of


def test_densities_are_of_the_tissue(densities):
    status, row, _ = densities()
    assert status == 0
    assert float(row["share"]) == pytest.approx(1 / 8)
    assert float(row["share_of_tissue"]) == pytest.approx(1 / 4, rel=0.05)


@pytest.mark.parametrize("own", [True, False])
def test_another_slide_of_the_same_size_is_told(densities, slide, own):
    with open_slide(slide) as opened:
        known = opened.identity if own else "0" * 32
    status, _, error = densities(about={"slide": known})
    assert status == 0
    assert ("its content is other" in error) != own


def test_of_a_region_only_the_tissue_that_was_segmented_counts(densities):
    status, row, _ = densities(about={"region": [0, 0, 512, 1536]})
    assert status == 0
    assert float(row["share"]) == pytest.approx(1 / 4)
    assert float(row["share_of_tissue"]) == pytest.approx(1 / 2, rel=0.05)


def test_tissue_has_the_pixel_size_of_the_labels(densities):
    """Who ran with another --mpp than the file's gets areas of one kind."""
    status, row, _ = densities(mpp=0.5)
    assert status == 0
    assert float(row["mm2"]) == pytest.approx(512 * 384 / 4e6, rel=1e-3)
    assert float(row["share_of_tissue"]) == pytest.approx(1 / 4, rel=0.05)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"shape": (1000, 1536)}, "they are of another slide"),
        ({"about": {"region": [0, 1000, 1024, 500]}}, "No tissue was found"),
    ],
)
def test_densities_that_would_be_of_something_else_are_refused(densities, made, why):
    status, _, error = densities(**made)
    assert (status, why in error) == (1, True), error


def test_outlines_onto_a_slide(pathsam, run, tmp_path):
    slide = tmp_path / "s.tif"
    tifffile.imwrite(
        slide, np.full((*SHAPE, 3), 200, np.uint8), photometric="rgb",
        resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    features = [{
        "type": "Feature", "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [[[1, 1], [9, 1], [9, 7], [1, 7], [1, 1]]]},
    }]  # fmt: skip
    path = tmp_path / "q.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    status, _, error = pathsam("export", path, "--out", tmp_path / "a.zarr")
    assert (status, "--shape" in error) == (1, True)
    assert pathsam("export", path, "--out", tmp_path / "a.zarr", "--slide", slide)[0] == 0
    found = LabelStore.open(tmp_path / "a.zarr", "objects")
    assert (found.shape_yx, found.mpp) == (SHAPE, 0.5)
    assert found.about["slide"] == open_slide(slide).identity
    assert int((found.read(Region.of(SHAPE)) > 0).sum()) == 48
    assert pathsam("export", path, "--out", tmp_path / "b.zarr", "--shape", "30,40")[0] == 0


def test_called_wrongly(pathsam, run, tmp_path):
    status, _, error = pathsam("export", run, "--out", tmp_path / "x.docx")
    assert (status, ".geojson" in error) == (2, True)
    status, _, error = pathsam("export", run, "--out", tmp_path / "x.csv", "--table", "nuclei")
    assert status == 2
    status, _, error = pathsam("export", run, "--out", tmp_path / "x.tif", "--labels", "nuclei")
    assert (status, "classes, objects" in error) == (1, True)
    status, _, error = pathsam("export", tmp_path / "gone.zarr", "--out", tmp_path / "x.csv")
    assert status == 1


@pytest.mark.parametrize(
    ("what", "typed", "why"),
    [
        ("run", ("--shape", "8,8", "--out", "o.geojson"), "of labels of a slide it is not read"),
        ("run", ("--slide", "s.tif", "--out", "o.geojson"), "for o.geojson it is not read"),
        ("run", ("--simplify", "1", "--out", "o.csv"), "for o.csv it is not read"),
        ("run", ("--detections", "--out", "o.ome.tif"), "for o.ome.tif it is not read"),
        ("image", ("--slide", "s.tif", "--out", "o.png"), "of label images it is not read"),
        ("image", ("--to", "png", "--out", "o.geojson"), "the ending of --out says"),
        ("image", ("--out", "o.csv"), "label images become .json"),
    ],
)
def test_options_that_would_not_be_read_are_refused(pathsam, run, tmp_path, what, typed, why):
    labels = run if what == "run" else tmp_path / "labels.tif"
    tifffile.imwrite(tmp_path / "labels.tif", np.ones(SHAPE, np.uint8))
    typed = [str(tmp_path / word) if "." in word else word for word in typed]
    status, _, error = pathsam("export", labels, *typed)
    assert (status, why in " ".join(error.replace("│", " ").split())) == (2, True), error
    assert not list(tmp_path.glob("o.*"))
