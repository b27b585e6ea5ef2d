"""GeoJSON of a label store and back: the same pixels, names and colours, in any order of tiles."""

from __future__ import annotations

import gzip
import json
import sqlite3

import numpy as np
import pytest

from napari_pathsam.core.classes import ClassInfo, ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io import _json_stream, _ngff_metadata, store_geojson
from napari_pathsam.io._json_stream import members_of
from napari_pathsam.io.annotations import read_geojson, write_geojson
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import class_of_objects
from napari_pathsam.io.store_geojson import read_store_geojson, write_store_geojson

SHAPE = (150, 220)
CLASSES = ClassTable(
    classes=(
        ClassInfo(id=3, name="tumour: nests", color="#ff8800"),
        ClassInfo(id=7, name="stroma", color="#0a0b0c"),
    )
)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(store_geojson, "BIN_PX", 64)
    monkeypatch.setattr(_ngff_metadata, "COARSEST_PX", 16)
    monkeypatch.setattr(_json_stream, "PIECE", 17)


@pytest.fixture
def maps(rng):
    """Objects with holes, islands in the holes and pieces; ids with gaps."""
    ids = rng.integers(0, 40, (10, 12)).astype(np.int32).repeat(15, 0).repeat(20, 1)[:, :220]
    ids[40:110, 60:150] = 900
    ids[55:95, 80:130] = 0
    ids[60:70, 90:100] = 901
    ids[130:140, 5:215] = 902
    classes = np.where(ids % 2 == 0, 3, 7).astype(np.uint8)
    classes[ids == 0] = 0
    return ids, classes


@pytest.fixture
def stores(tmp_path, maps):
    made = []
    for name, array in zip(("objects", "classes"), maps, strict=True):
        store = LabelStore.create(
            tmp_path / "run.zarr", SHAPE, mpp=0.5, classes=CLASSES, dtype=array.dtype, name=name,
            chunk_px=64,
        )  # fmt: skip
        store.write(Region.of(SHAPE), array)
        made.append(store)
    return made


@pytest.mark.parametrize("ending", ["geojson", "geojson.gz"])
def test_objects_come_back_as_they_were(tmp_path, stores, maps, ending):
    path, out = tmp_path / f"o.{ending}", tmp_path / "back.zarr"
    n = list(write_store_geojson(path, *stores))[-1]
    assert n == len(np.unique(maps[0])) - 1
    *_, (done, total) = read_store_geojson(path, out)
    assert done == total > 1
    back = [LabelStore.open(out, name) for name in ("objects", "classes")]
    for store, array in zip(back, maps, strict=True):
        np.testing.assert_array_equal(store.read(Region.of(SHAPE)), array)
        assert store.mpp == 0.5
        assert store.classes == CLASSES
    class_of = class_of_objects(out)
    assert class_of == {i: int(maps[1][maps[0] == i][0]) for i in np.unique(maps[0]) if i}
    assert class_of_objects(tmp_path / "run.zarr") is None
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    # The reader of small files says the same.
    ids, classes, table = read_geojson(path, SHAPE)
    np.testing.assert_array_equal(ids, maps[0])
    np.testing.assert_array_equal(classes, maps[1])
    assert table == CLASSES


def test_areas_of_a_class_map_come_back(tmp_path, stores, maps):
    path, out = tmp_path / "c.geojson", tmp_path / "back.zarr"
    list(write_store_geojson(path, stores[1]))
    list(read_store_geojson(path, out))
    assert not LabelStore.open(out, "objects").read(Region.of(SHAPE)).any()
    assert class_of_objects(out) == {}  # areas are no objects
    found = LabelStore.open(out, "classes")
    np.testing.assert_array_equal(found.read(Region.of(SHAPE)), maps[1])
    assert len(found.level_shapes) == 5
    for level in range(1, 5):  # band by band as at once
        np.testing.assert_array_equal(
            found.read(Region.of(SHAPE), level), stores[1].read(Region.of(SHAPE), level)
        )


def test_it_is_what_qupath_reads(tmp_path, stores):
    path = tmp_path / "o.geojson"
    list(write_store_geojson(path, *stores))
    document = json.loads(path.read_text())
    assert document["type"] == "FeatureCollection"
    one = next(f for f in document["features"] if f["properties"]["metadata"]["label"] == "900")
    assert one["geometry"]["type"] == "Polygon"
    assert len(one["geometry"]["coordinates"]) == 2  # with its hole
    assert one["properties"]["classification"] == {"name": "tumour: nests", "color": [255, 136, 0]}
    assert one["geometry"]["coordinates"][0][0] == one["geometry"]["coordinates"][0][-1]


def test_the_later_outline_wins_and_foreign_files_are_read(tmp_path, maps):
    """As :func:`read_geojson` paints them: order, names, ids that come twice, points."""

    def square(x0, y0, x1, y1, name=None, label=None):
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        properties = {"objectType": "annotation"}
        if name:
            properties["classification"] = {"name": name, "colorRGB": -3670016}
        if label:
            properties["metadata"] = {"label": label}
        return {
            "type": "Feature", "properties": properties,
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }  # fmt: skip

    features = [
        square(10, 10, 180.5, 90.25, "A"), square(50, 50, 120, 140, "B", "5"),
        square(100, 20, 150, 60, None, "5"), square(-30, -30, 8, 8, "A"),
        square(300, 10, 400, 20, "B"), square(-50, 100, 260, 104),
        {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 1]}},
    ]  # fmt: skip
    path, out = tmp_path / "q.geojson", tmp_path / "q.zarr"
    for n, text in enumerate((
        json.dumps({"type": "FeatureCollection", "features": features}, indent=2),
        json.dumps(features), "\ufeff" + json.dumps({"features": features}),
    )):  # fmt: skip
        path.write_text(text, encoding="utf-8")
        out = tmp_path / f"q{n}.zarr"
        list(read_store_geojson(path, out, shape_yx=SHAPE, mpp=0.25))
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        ids, classes, table = read_geojson(path, SHAPE)
        np.testing.assert_array_equal(LabelStore.open(out, "objects").read(Region.of(SHAPE)), ids)
        found = LabelStore.open(out, "classes")
        np.testing.assert_array_equal(found.read(Region.of(SHAPE)), classes)
        assert found.classes == table
        assert found.mpp == 0.25


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"type": "FeatureCollection", "features": [', "damaged"),
        ('{"type": "FeatureCollection", "features": [{"type": "Feature"}]}', "damaged"),
        ('{"type": "Topology", "objects": {}}', "'Topology'"),
        ('{"type": "FeatureCollection", "features": []} x', "follows the end"),
        ("[[[[[[", "damaged"),
        ('{"type": "FeatureCollection", "features": []}', "--shape"),
    ],
)
def test_damaged_files_leave_nothing(tmp_path, text, says):
    path = tmp_path / "bad.geojson"
    path.write_text(text)
    with pytest.raises(BadFileError, match=says):
        list(read_store_geojson(path, tmp_path / "out.zarr"))
    assert [p.name for p in tmp_path.iterdir()] == ["bad.geojson"]


def test_stopping_leaves_nothing_and_nothing_is_written_over(tmp_path, stores, monkeypatch):
    monkeypatch.setattr(store_geojson, "TOLD_EVERY", 2)
    path = tmp_path / "o.geojson"
    writing = write_store_geojson(path, *stores)
    next(writing)
    writing.close()
    assert not path.exists()
    list(write_store_geojson(path, *stores))
    reading = read_store_geojson(path, tmp_path / "half.zarr")
    for _ in range(4):
        next(reading)
    reading.close()
    assert {p.name for p in tmp_path.iterdir()} == {"o.geojson", "run.zarr"}
    with pytest.raises(BadFileError, match="there already"):
        list(read_store_geojson(path, tmp_path / "run.zarr"))


@pytest.mark.parametrize("pages", [2, 4])
def test_a_full_disk_is_called_that(tmp_path, stores, monkeypatch, pages):
    path = tmp_path / "o.geojson"
    list(write_store_geojson(path, *stores))
    connect = sqlite3.connect

    def small(*args, **how):
        database = connect(*args, **how)
        database.execute(f"PRAGMA max_page_count={pages}")
        return database

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(BadFileError, match=r"back\.zarr could not be written: the disk is full"):
        list(read_store_geojson(path, tmp_path / "back.zarr"))
    assert {p.name for p in tmp_path.iterdir()} == {"o.geojson", "run.zarr"}


def test_streamed_values_are_those_of_json(tmp_path):
    document = {
        "n": 1234567,
        "s": 'a "[,]" ü',
        "features": [1, [2, {"x": None}], "y", 3.5],
        "z": {},
    }
    for name, opener in (("a.json", open), ("a.json.gz", gzip.open)):
        path = tmp_path / name
        with opener(path, "wt", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False, indent=1)
        found = list(members_of(path, "features"))
        assert [v for k, v in found if k == "features"] == document["features"]
        assert {k: v for k, v in found if k != "features"} == {
            k: v for k, v in document.items() if k != "features"
        }
    written = tmp_path / "w.geojson"
    write_geojson(written, np.eye(9, dtype=np.uint8))
    assert [k for k, _ in members_of(written, "features")] == ["type", "napari_pathsam", "features"]
