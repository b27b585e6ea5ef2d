"""Tables and TIFFs of a label store, against counting the whole map."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile
from skimage.measure import regionprops

from napari_pathsam.core.classes import ClassInfo, ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.io import store_tables, store_tiff
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.store_tables import (
    class_columns,
    count_store,
    object_columns,
    store_areas,
    write_table,
)
from napari_pathsam.io.store_tiff import write_store_tiff

SHAPE = (190, 260)
CLASSES = ClassTable(
    classes=(
        ClassInfo(id=2, name="gland", color="#ff8001"),
        ClassInfo(id=9, name="none here", color="#00ff00"),
        ClassInfo(id=5, name="stroma", color="#0000ff"),
    )
)
MPP = 0.5


@pytest.fixture
def maps(rng):
    ids = rng.integers(0, 30, (19, 26)).astype(np.int32).repeat(10, 0).repeat(10, 1) * 1000
    classes = np.where(ids % 3000 == 0, 2, 5).astype(np.uint8)
    classes[ids == 0] = 0
    classes[:40, :50] = np.where(rng.random((40, 50)) < 0.3, 255, classes[:40, :50])
    classes[100:105] = 2  # a part of many objects has another class than the rest
    return ids, classes


@pytest.fixture
def stores(tmp_path, maps, monkeypatch):
    monkeypatch.setattr(store_tables, "TILE_PX", 70)
    made = []
    for name, array in zip(("objects", "classes"), maps, strict=True):
        store = LabelStore.create(
            tmp_path / "run.zarr", SHAPE, mpp=MPP, classes=CLASSES, dtype=array.dtype, name=name,
            chunk_px=64,
        )  # fmt: skip
        store.write(Region.of(SHAPE), array)
        made.append(store)
    return made


def test_counts_are_those_of_the_whole_map(stores, maps):
    ids, classes = maps
    *shares, counted = count_store(stores[1], stores[0])
    assert shares[-1] == 1
    assert shares == sorted(shares)
    np.testing.assert_array_equal(counted.px, np.bincount(classes.ravel(), minlength=256))
    wanted = {p.label: p for p in regionprops(ids)}
    assert counted.ids.tolist() == sorted(wanted)
    for k, i in enumerate(counted.ids.tolist()):
        one = wanted[i]
        assert counted.area_px[k] == one.num_pixels
        np.testing.assert_allclose(counted.centre_yx[k], one.centroid)
        assert (*counted.first_yx[k], *counted.last_yx[k]) == one.bbox
        inside = classes[(ids == i) & (classes > 0) & (classes < 255)]
        votes = np.bincount(inside, minlength=10)
        assert counted.class_id[k] == votes.argmax()


def test_tables_as_files(stores, maps, tmp_path):
    *_, counted = count_store(stores[1], stores[0])
    whole = {"region": Region.of(maps[0].shape)}
    areas = store_areas(counted, CLASSES, **whole, mpp=MPP, objects=True, tissue_mm2=0.01)
    write_table(tmp_path / "c.csv", class_columns(areas))
    with (tmp_path / "c.csv").open() as file:
        rows = {r["class"]: r for r in csv.DictReader(file)}
    assert list(rows) == ["gland", "none here", "stroma", "unsure"]
    px = int((maps[1] == 2).sum())
    n = int((counted.class_id == 2).sum())
    gland = rows["gland"]
    assert int(gland["px"]) == px
    assert float(gland["mm2"]) == pytest.approx(px * 0.25e-6, rel=1e-4)
    assert float(gland["share_of_tissue"]) == pytest.approx(px * 0.25e-4, rel=1e-4)
    assert int(gland["objects"]) == n > 0
    assert float(gland["objects_per_mm2_of_tissue"]) == pytest.approx(n / 0.01)
    assert rows["none here"]["objects"] == "0"
    assert rows["none here"]["median_um2"] == rows["unsure"]["objects"] == ""
    plain = store_areas(counted, CLASSES, **whole, mpp=None, objects=False, tissue_mm2=0.01)
    write_table(tmp_path / "p.csv", class_columns(plain))
    with (tmp_path / "p.csv").open() as file:
        one = next(csv.DictReader(file))
    assert (one["mm2"], one["objects"], one["share_of_tissue"]) == ("", "", "")

    parquet = pytest.importorskip("pyarrow.parquet")
    each = object_columns(counted, CLASSES, mpp=MPP)
    write_table(tmp_path / "o.parquet", each)
    back = parquet.read_table(tmp_path / "o.parquet").to_pydict()
    assert back["object"] == counted.ids.tolist()
    assert set(back["class"]) == {"gland", "stroma"}
    assert back["area_um2"][0] == pytest.approx(0.25 * counted.area_px[0])


def test_only_one_of_the_two_maps(stores):
    *_, counted = count_store(stores[1])
    assert not len(counted.ids)
    *_, counted = count_store(None, stores[0])
    assert len(counted.ids)
    assert not counted.class_id.any()
    assert not counted.px.any()


def test_without_classes_nothing_is_counted_where_nothing_is(tmp_path):
    empty = LabelStore.create(tmp_path / "e.zarr", SHAPE, dtype=np.int32, name="objects")
    *_, counted = count_store(None, empty)
    assert not counted.px.any()
    *_, counted = count_store(empty)
    assert counted.px[0] == counted.px.sum() == SHAPE[0] * SHAPE[1]


@pytest.mark.parametrize("which", [0, 1])
def test_a_pyramid_as_ome_tiff(stores, maps, tmp_path, which, monkeypatch):
    monkeypatch.setattr(store_tiff, "TILE_PX", 64)
    path = tmp_path / "l.ome.tif"
    write_store_tiff(path, stores[which])
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        assert len(series.levels) == len(stores[which].level_shapes)
        np.testing.assert_array_equal(series.levels[0].asarray(), maps[which])
        for level, array in zip(series.levels, stores[which].pyramid(), strict=True):
            np.testing.assert_array_equal(level.asarray(), np.asarray(array))
        told = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
        assert told["Pixels"]["PhysicalSizeX"] == MPP
        assert json.loads(told["Description"])[0] == {
            "id": 2, "name": "gland", "color": "#ff8001"
        }  # fmt: skip
        page = tif.pages[0]
        if which:
            assert page.photometric == tifffile.PHOTOMETRIC.PALETTE
            assert (page.colormap[:, 2] >> 8).tolist() == [255, 128, 1]
        assert page.tile == (64, 64)
