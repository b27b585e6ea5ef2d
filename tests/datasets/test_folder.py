"""Folders of images and labels: pairing by name, and what goes wrong."""

import json

import numpy as np
import pytest

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.datasets import dataset, folder_samples, open_dataset
from napari_pathsam.datasets.grouping import grouped, grouping


def test_pairs_by_stem_whatever_the_types(folder):
    folder.image("images/b.webp")
    folder.image("images/a.10.bmp")
    folder.image("images/c.tif")
    folder.labels("labels/b.png")
    folder.labels("labels/a.10_anno.png")
    folder.labels("labels/c.tif")
    (folder.root / "images" / "notes.txt").write_text("not an image")
    samples = folder_samples(folder.root / "images", folder.root / "labels", mpp=0.5)
    assert [s.name for s in samples] == ["a.10", "b", "c"]
    assert all(s.label_kind == "instances" and s.mpp == 0.5 for s in samples)
    for sample in samples:
        image, labels = sample.load()
        assert image.shape == (20, 30, 3)
        assert set(np.unique(labels)) == {0, 1, 2}


def test_one_folder_may_hold_both(folder):
    for name in ("x", "y"):
        folder.image(f"{name}.png")
        folder.labels(f"{name}_anno.png")
    assert [s.name for s in folder_samples(folder.root, folder.root)] == ["x", "y"]


def test_labels_with_one_id_are_binary_unless_told_otherwise(folder):
    folder.image("i/x.png")
    folder.labels("l/x.png", (np.eye(20, 30) * 255).astype(np.uint8))
    i, la = folder.root / "i", folder.root / "l"
    assert folder_samples(i, la)[0].label_kind == "binary"
    assert folder_samples(i, la, label_kind="classes")[0].label_kind == "classes"


def test_says_what_is_missing(folder):
    i, la = folder.root / "i", folder.root / "l"
    with pytest.raises(BadFileError, match="does not exist"):
        folder_samples(i, la)
    la.mkdir()
    i.mkdir()
    with pytest.raises(BadFileError, match="holds no image"):
        folder_samples(i, la)
    folder.image("i/x.png")
    with pytest.raises(BadFileError, match=r"x\.png has no labels"):
        folder_samples(i, la)
    folder.labels("l/x.png")
    folder.labels("l/x_anno.png")
    with pytest.raises(BadFileError, match="more than one label"):
        folder_samples(i, la)


def test_two_images_of_one_stem_are_refused(folder):
    folder.image("i/x.png")
    folder.image("i/x.webp")
    folder.labels("l/x.png")
    with pytest.raises(BadFileError, match=r"x\.png and x\.webp"):
        folder_samples(folder.root / "i", folder.root / "l")


def geojson(*features):
    return json.dumps({"type": "FeatureCollection", "features": list(features)})


def feature(name, *corners):
    named = {"classification": {"name": name}} if name else {}
    ring = [list(c) for c in (*corners, corners[0])]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": named}  # fmt: skip


GLAND = feature("gland", (3, 2), (12, 2), (12, 10), (3, 10))
STROMA = feature("stroma", (15, 12), (29, 12), (29, 18), (15, 18))


def test_outlines_of_qupath_are_labels_too(folder, layouts):
    folder.image("i/x.png")
    folder.text("l/x.geojson", geojson(GLAND, STROMA))
    i, la = folder.root / "i", folder.root / "l"
    (sample,) = folder_samples(i, la)
    assert sample.label_kind == "instances"
    np.testing.assert_array_equal(sample.load()[1], layouts.OBJECTS)
    table = ClassTable.of("stroma", "gland")
    (sample,) = folder_samples(i, la, label_kind="classes", classes=table)
    np.testing.assert_array_equal(sample.load()[1], (3 - layouts.OBJECTS) % 3)
    with pytest.raises(BadFileError, match="a table of the classes is needed"):
        folder_samples(i, la, label_kind="classes")
    (sample,) = folder_samples(i, la, label_kind="classes", classes=ClassTable.of("gland"))
    with pytest.raises(BadFileError, match=r"x\.geojson has outlines of the classes stroma"):
        sample.load()
    folder.text("l/x.geojson", geojson(GLAND, feature(None, (0, 0), (2, 0), (2, 2))))
    with pytest.raises(BadFileError, match=r"x\.geojson has outlines of 1 of no class"):
        sample.load()


def test_colour_pictures_are_no_labels(folder):
    folder.image("i/x.png")
    folder.image("l/x.png")
    (sample,) = folder_samples(folder.root / "i", folder.root / "l", label_kind="classes")
    with pytest.raises(BadImageError, match=r"x\.png is a colour picture"):
        sample.load()


def test_a_folder_as_a_data_set(folder, layouts):
    layouts.folders(folder)
    data = dataset("folder", root=folder.root)
    assert (data.classes, data.label_kind) == (("gland", "stroma"), "classes")
    assert data.splits == ("train", "val", "test")
    assert [s.name for s in data.samples(folder.root)] == ["test/test0", "test/test1"]
    assert not data.verify(folder.root)
    folder.labels("val/labels/val1_anno.png", np.full(layouts.SHAPE, 9, np.uint8))
    (problem,) = data.verify(folder.root)
    assert "val/val1" in problem
    assert "[9]" in problem
    folder.text("classes.csv", "id,name\n1,gland\n3,stroma\n")
    with pytest.raises(BadFileError, match=r"classes\.csv has the ids 1, 3"):
        dataset("folder", root=folder.root)


def test_patients_are_found_in_names_and_on_one_side_only(folder):
    for part, names in (("train", ("P07_a", "P08_a")), ("test", ("P09_a", "P09_b", "old"))):
        for name in names:
            folder.image(f"{part}/images/{name}.png")
            folder.labels(f"{part}/labels/{name}.png")
    plain = dataset("folder", root=folder.root)
    by_patient = grouping(plain, "P[0-9]+")
    groups = [s.group for s in by_patient.samples(folder.root, "test")]
    assert groups == ["P09", "P09", "old"]  # nothing to find: what it was
    assert grouping(plain, None) is plain
    folder.image("test/images/P07_b.png")
    folder.labels("test/labels/P07_b.png")
    assert len(plain.samples(folder.root)) == 4
    with pytest.raises(BadFileError, match="both sides: P07"):
        by_patient.samples(folder.root)
    assert any("both sides: P07" in problem for problem in by_patient.verify(folder.root))
    for pattern, says in (("S[0-9]+", "matches in none of the 4 names"), ("P[", "no regular expr")):
        with pytest.raises(BadFileError, match=says):
            grouped(plain.samples(folder.root), pattern)


def test_a_folder_without_parts_is_one_split(folder):
    folder.image("images/x.png")
    folder.labels("labels/x.png")
    data = dataset("folder", root=folder.root)
    assert (data.default_split, data.train_split, data.val_split) == ("all", "all", None)
    assert data.label_kind == "instances"
    assert len(data.samples(folder.root)) == 1


def test_an_empty_test_part_is_told(folder, layouts):
    layouts.folders(folder)
    for path in (folder.root / "test" / "images").iterdir():
        path.unlink()
    with pytest.raises(BadFileError, match=r"test/images holds no image"):
        open_dataset("folder", folder.root, "test")
