"""Label map → GeoJSON → label map is the identity; what others write can be read."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from skimage.draw import polygon2mask

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.io._outlines import polygons_of
from napari_pathsam.io.annotations import objects_of_classes, read_geojson, write_geojson


def random_labels(rng: np.random.Generator) -> np.ndarray:
    """Small and full of holes, touching neighbours, diagonals and pieces; or blobs with them."""
    shape = tuple(rng.integers(1, 24, 2))
    labels = rng.integers(0, rng.integers(1, 5), shape, endpoint=True)
    if rng.random() < 0.5:
        labels = np.kron(labels, np.ones(rng.integers(1, 5, 2), int))
        labels[rng.random(labels.shape) < 0.05] = 0
    return np.asarray(labels * rng.integers(1, 1000), np.int32)


@pytest.mark.parametrize("seed", range(10))
def test_round_trip_is_the_identity(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(30):
        labels = random_labels(rng)
        write_geojson(tmp_path / "x.geojson", labels)
        instances, class_map, classes = read_geojson(tmp_path / "x.geojson", labels.shape)
        np.testing.assert_array_equal(instances, labels)
        assert instances.dtype == np.int32
        assert not class_map.any()
        assert not len(classes)


@pytest.mark.parametrize("seed", range(5))
def test_polygons_are_valid_and_cover_each_object(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(30):
        labels = random_labels(rng)
        seen = []
        for index, polygons in polygons_of(labels):
            shape = shapely.MultiPolygon([(p[0], p[1:]) for p in polygons])
            assert shape.is_valid
            assert shape.area == (labels == index).sum()
            assert all(p.exterior.is_ccw for p in shape.geoms)
            seen.append(index)
        assert seen == [i for i in np.unique(labels) if i]


def test_a_hole_closed_at_a_corner() -> None:
    """The hole and the outside meet at one corner; the rings must not run into each other."""
    ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1]])
    ((_, polygons),) = polygons_of(ring)
    assert sorted(len(p) for p in polygons) == [1, 2]


def test_corners_are_pixel_corners(tmp_path: Path) -> None:
    labels = np.zeros((6, 9), int)
    labels[2:4, 3:8] = 7
    write_geojson(tmp_path / "x.geojson", labels, offset_yx=(100, 1000))
    (feature,) = json.loads((tmp_path / "x.geojson").read_text())["features"]
    assert feature["type"] == "Feature"
    assert feature["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[1003, 102], [1008, 102], [1008, 104], [1003, 104], [1003, 102]]],
    }
    assert feature["properties"]["objectType"] == "annotation"


def test_classes_names_and_colors_are_kept(tmp_path: Path) -> None:
    classes = (
        ClassTable.of("gland", "stroma", "unused").without(1).with_class("Tumör ‘x’", "#010203")
    )
    labels = np.array([[1, 1, 0, 5], [0, 2, 2, 5]])
    path = tmp_path / "x.geojson.gz"
    write_geojson(path, labels, class_of={1: 1, 5: 2}, classes=classes, object_type="detection")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        first = json.load(file)["features"][0]["properties"]
    assert first["classification"] == {"name": "Tumör ‘x’", "color": [1, 2, 3]}
    assert first["objectType"] == "detection"
    instances, class_map, read = read_geojson(path, labels.shape)
    np.testing.assert_array_equal(instances, labels)
    np.testing.assert_array_equal(class_map, [[1, 1, 0, 2], [0, 0, 0, 2]])
    assert read == classes


def test_classes_without_a_table(tmp_path: Path) -> None:
    write_geojson(tmp_path / "x.geojson", np.array([[1, 2]]), class_of={1: 3, 2: 0})
    _, class_map, classes = read_geojson(tmp_path / "x.geojson", (1, 2))
    assert class_map.tolist() == [[3, 0]]
    assert classes.names == ("Class 3",)


def test_a_thousand_objects_in_a_few_seconds(tmp_path: Path) -> None:
    y, x = np.mgrid[0:64, 0:64]
    one = (np.hypot(y - 32, x - 32) < 31.9) & (np.hypot(y - 32, x - 32) > 8)
    labels = np.kron(np.arange(1, 1025).reshape(32, 32), one)
    begin = time.perf_counter()
    write_geojson(tmp_path / "x.geojson", labels)
    instances, _, _ = read_geojson(tmp_path / "x.geojson", labels.shape)
    assert time.perf_counter() - begin < 15
    np.testing.assert_array_equal(instances, labels)


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    labels = rng.integers(0, 3, (37, 29))
    whole = [(i, [r.tolist() for p in ps for r in p]) for i, ps in polygons_of(labels)]
    monkeypatch.setattr("napari_pathsam.io._outlines.BAND_ROWS", 5)
    parts = [(i, [r.tolist() for p in ps for r in p]) for i, ps in polygons_of(labels)]
    assert [(i, sorted(r)) for i, r in whole] == [(i, sorted(r)) for i, r in parts]


def test_simplified_outlines_are_shorter_and_close(tmp_path: Path) -> None:
    y, x = np.mgrid[0:200, 0:200]
    labels = ((np.hypot(y - 100, x - 100) < 80) & (np.hypot(y - 100, x - 100) > 30)).astype(int)
    write_geojson(tmp_path / "exact.geojson", labels)
    write_geojson(tmp_path / "simple.geojson", labels, simplify_px=1)
    sizes = [(tmp_path / f"{name}.geojson").stat().st_size for name in ("simple", "exact")]
    assert sizes[0] < sizes[1] / 3
    read = read_geojson(tmp_path / "simple.geojson", labels.shape)[0]
    assert (read != labels).mean() < 0.01


def test_class_maps_become_objects() -> None:
    class_map = np.array([[1, 1, 0, 2], [0, 0, 1, 2], [3, 0, 0, 0]], np.uint8)
    instances, class_of = objects_of_classes(class_map)
    assert len(class_of) == 3  # 8-connected
    np.testing.assert_array_equal(np.vectorize({0: 0, **class_of}.get)(instances), class_map)


@pytest.mark.parametrize("labels", [np.zeros((4, 4)), np.zeros((2, 2, 2), int), np.array([[-1]])])
def test_what_cannot_be_written(labels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(BadImageError):
        write_geojson(tmp_path / "x.geojson", labels)
    assert not list(tmp_path.iterdir())


# --- files of others -----------------------------------------------------------------------------


def feature(coordinates: Any, kind: str = "Polygon", **properties: Any) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def square(y: float, x: float, size: float) -> list[list[list[float]]]:
    return [[[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]]


def read(document: Any, folder: Path, shape: tuple[int, int] = (10, 12)) -> Any:
    (folder / "q.geojson").write_text(json.dumps(document), encoding="utf-8")
    return read_geojson(folder / "q.geojson", shape)


def test_any_polygon_takes_the_pixels_whose_centre_it_holds(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    for _ in range(50):
        corners = rng.uniform(-3, 25, (rng.integers(3, 9), 2))
        got = read([feature([corners.tolist()])], tmp_path, (20, 22))[0]
        # Pixel centres lie at whole numbers there, at halves in GeoJSON.
        expected = polygon2mask((20, 22), corners[:, ::-1] - 0.5)
        np.testing.assert_array_equal(got > 0, expected)


def test_qupath_versions_of_classes(tmp_path: Path) -> None:
    features = [
        feature(square(0, 0, 2), classification={"name": "Tumor", "colorRGB": -3670016}),
        feature(square(0, 4, 2), classification={"name": "Stroma", "color": [150, 200, 150]}),
        feature(square(4, 0, 2), classification={"names": ["Tumor", "Low"], "color": [1, 2, 3]}),
        feature(square(4, 4, 2), name="no class"),
        feature(square(8, 8, 2), classification={"name": "Tumor"}),
    ]
    instances, class_map, classes = read(features, tmp_path)
    assert classes.names == ("Tumor", "Stroma", "Tumor: Low")
    assert [c.color for c in classes] == ["#c80000", "#96c896", "#010203"]
    assert instances[[0, 0, 4, 4, 8], [0, 4, 0, 4, 8]].tolist() == [1, 2, 3, 4, 5]
    assert class_map[[0, 0, 4, 4, 8], [0, 4, 0, 4, 8]].tolist() == [1, 2, 3, 0, 1]


def test_collections_overlaps_and_things_without_area(tmp_path: Path) -> None:
    features = [
        feature(square(0, 0, 6)),
        feature([5, 5], "Point"),
        feature([[0, 0], [9, 9]], "LineString"),
        {"type": "Feature", "geometry": None, "properties": None},
        feature([square(2, 2, 2), square(3, 3, 3)], "MultiPolygon"),
        feature(square(-50, -50, 3)),
    ]
    collection = {"type": "FeatureCollection", "features": features}
    instances, _, _ = read(collection, tmp_path)
    assert set(np.unique(instances)) == {0, 1, 2}
    assert instances[0, 0] == 1
    assert (instances[2:4, 2:4] == 2).all()  # the later one wins, and overlapping parts are joined
    assert (instances[3:6, 3:6] == 2).all()
    assert read(features[0], tmp_path)[0].sum() == 36  # one feature alone
    assert not read([], tmp_path)[0].any()


HOSTILE: dict[str, Any] = {
    "a number": 5,
    "text": "FeatureCollection",
    "another kind": {"type": "Topology"},
    "no features": {"type": "FeatureCollection"},
    "features are text": {"type": "FeatureCollection", "features": "abc"},
    "features of numbers": [1, 2, 3],
    "no geometry": [{"type": "Feature"}],
    "strange geometry": [feature([], "Curve")],
    "short ring": [feature([[[0, 0], [1, 1]]])],
    "ragged ring": [feature([[[0, 0], [1], [2, 2]]])],
    "letters": [feature([[["a", "b"], ["c", "d"], ["e", "f"]]])],
    "not finite": [feature([[[0, 0], [float("nan"), 1], [2, 2]]])],
    "infinite": [feature([[[0, 0], [float("inf"), 1], [2, 2]]])],
    "far away": [feature([[[0, 0], [1e300, 1], [2, 2]]])],
    "huge whole number": [feature([[[0, 0], [10**400, 1], [2, 2]]])],
    "deep": [feature([[[[[[0, 0], [1, 1], [2, 0]]]]]])],
    "color": [feature(square(0, 0, 2), classification={"name": "a", "color": ["x", 1, 2]})],
    "properties": [feature(square(0, 0, 2)) | {"properties": [1]}],
    "classes": [feature(square(0, 0, 1), classification={"name": f"c{i}"}) for i in range(300)],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_json_is_one_error(case: str, tmp_path: Path) -> None:
    with pytest.raises(BadFileError) as caught:
        read(HOSTILE[case], tmp_path)
    assert "q.geojson" in str(caught.value)
    assert "\n" not in str(caught.value)


DAMAGED = {
    "empty": b"",
    "one brace": b"{",
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "no gzip": b"\x1f\x8b broken",
    # Without the second it was made in: it would differ between two processes that run the tests.
    "gzip cut short": gzip.compress(b"{}", mtime=0)[:-4],
    "json cut short": b'{"type": "FeatureCollection", "features": [',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_one_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.geojson").write_bytes(content)
    with pytest.raises(BadFileError):
        read_geojson(tmp_path / "x.geojson", (5, 5))


def test_every_cut_of_a_file_is_one_error(tmp_path: Path) -> None:
    labels = np.array([[1, 0, 2], [1, 1, 2]])
    write_geojson(tmp_path / "x.geojson", labels, class_of={1: 1}, classes=ClassTable.of("a"))
    content = (tmp_path / "x.geojson").read_bytes()
    for end in range(0, len(content.rstrip()), 7):
        (tmp_path / "cut.geojson").write_bytes(content[:end])
        with pytest.raises(BadFileError):
            read_geojson(tmp_path / "cut.geojson", (2, 3))


def test_damaged_extras_of_ours_are_passed_over(tmp_path: Path) -> None:
    for own in (1, {"classes": 3}, {"classes": [{"id": 900}]}, {"shape_yx": ["a", 2], "mpp": "x"}):
        features = [feature(square(0, 0, 2))]
        document = {"type": "FeatureCollection", "napari_pathsam": own, "features": features}
        assert read(document, tmp_path)[0].sum() == 4


def test_an_older_file_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.geojson"
    path.write_text("old")

    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_pathsam.io.annotations.polygons_of", full)
    with pytest.raises(BadFileError, match="No space left"):
        write_geojson(path, np.ones((3, 3), int))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
