"""COCO: run lengths that other programs read, back through our own reader, and by the letter."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from napari_pathsam.cli import main
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.datasets.coco import unpacked
from napari_pathsam.io.annotations import read_geojson
from napari_pathsam.io.coco import LabelledImage, packed, write_coco
from napari_pathsam.io.images import read_labels, write_labels

TISSUE = ClassTable.of("gland", "stroma")


@pytest.fixture
def labels(rng):
    """Blocks of ids at random: touching, in pieces, at the border."""
    return rng.integers(0, 6, (9, 7)).repeat(4, 0).repeat(5, 1)


def test_runs_are_packed_as_the_coco_api_packs_them():
    # From the definition: 5 -> "5"; 40 = 8 + 32·1 -> two groups; the fourth is a difference.
    assert packed([5]) == "5"
    assert packed([40]) == chr(48 + 8 + 32) + "1"
    assert packed([16]) == chr(48 + 16 + 32) + "0"  # bit 4 alone would be a sign
    assert packed([3, 4, 5, 4]) == "3450"
    assert packed([3, 4, 5, 3]) == "345" + chr(48 + 31)  # minus one


def test_comes_back_through_the_reader(labels, tmp_path):
    path = tmp_path / "c.json"
    class_of = {i: 1 + i % 2 for i in range(1, 6)}
    n = write_coco(path, [LabelledImage("a.png", labels, class_of)], TISSUE)
    found = json.loads(path.read_text())
    assert n == len(found["annotations"]) == len(np.unique(labels[labels > 0]))
    assert found["images"] == [{"id": 1, "file_name": "a.png", "height": 36, "width": 35}]
    assert [c["name"] for c in found["categories"]] == ["gland", "stroma"]
    again = np.zeros_like(labels)
    ids = np.unique(labels[labels > 0])
    for index, one in zip(ids, found["annotations"], strict=True):
        mask = unpacked(one["segmentation"]["counts"], labels.shape)
        assert one["area"] == mask.sum()
        assert one["category_id"] == class_of[index]
        x, y, width, height = one["bbox"]
        rows, columns = np.nonzero(mask)
        assert (x, y) == (columns.min(), rows.min())
        assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        again[mask] = index
    np.testing.assert_array_equal(again, labels)


def test_is_what_pycocotools_writes(labels):
    for index in np.unique(labels[labels > 0]):
        mask = labels == index
        flat = mask.T.ravel()
        edges = np.flatnonzero(np.diff(np.r_[False, flat]))
        runs = np.diff(np.r_[0, edges, flat.size])
        theirs = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        assert packed(runs[runs.cumsum() <= flat.size]) == theirs.decode()
        np.testing.assert_array_equal(unpacked(theirs, mask.shape), mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of its own code
def test_pycocotools_reads_the_file(labels, tmp_path):
    path = tmp_path / "c.json"
    write_coco(path, [LabelledImage("a.png", labels, {2: 2})], TISSUE)
    found = COCO(path)
    assert [c["name"] for c in found.loadCats(found.getCatIds())] == ["gland", "stroma"]
    again = np.zeros_like(labels)
    for index, one in zip(range(1, 6), found.loadAnns(found.getAnnIds()), strict=True):
        mask = found.annToMask(one).astype(bool)
        assert mask.sum() == one["area"] == mask_api.area(one["segmentation"])
        assert one["bbox"] == mask_api.toBbox(one["segmentation"]).tolist()
        again[mask] = index
    np.testing.assert_array_equal(again, labels)


def test_whole_images_and_corners(tmp_path):
    everything, corner = np.ones((6, 5), int), np.zeros((6, 5), int)
    corner[0, 0] = corner[5, 4] = 7
    write_coco(tmp_path / "c.json", [LabelledImage("a", everything, {}),
                                     LabelledImage("b", corner, {})], TISSUE)  # fmt: skip
    first, second = json.loads((tmp_path / "c.json").read_text())["annotations"]
    assert unpacked(first["segmentation"]["counts"], (6, 5)).all()
    np.testing.assert_array_equal(unpacked(second["segmentation"]["counts"], (6, 5)), corner == 7)
    assert (first["image_id"], second["image_id"]) == (1, 2)


def test_refusals(labels, tmp_path):
    path = tmp_path / "c.json"
    with pytest.raises(BadFileError, match="class 9"):
        write_coco(path, [LabelledImage("a", labels, dict.fromkeys(range(9), 9))], TISSUE)
    with pytest.raises(BadFileError, match="Two images"):
        write_coco(path, [LabelledImage("a", labels, {})] * 2, TISSUE)
    with pytest.raises(BadImageError, match="float"):
        write_coco(path, [LabelledImage("a", labels / 2, {})], TISSUE)
    with pytest.raises(BadFileError, match="empty"):
        write_coco(path, [], ClassTable())
    assert not path.exists()


def test_the_command(labels, tmp_path, capsys):
    folder = tmp_path / "labels"
    folder.mkdir()
    for name in ("a", "b"):
        write_labels(folder / f"{name}.png", labels.astype(np.uint8))
    (tmp_path / "classes.csv").write_text(
        "id,name,color\n" + "".join(f"{i},c{i},#00ff00\n" for i in range(1, 6))
    )

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main(["export", *map(str, arguments)])
        return left.value.code or 0, capsys.readouterr().out

    assert run(folder, "--out", tmp_path / "c.json")[0] == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert [i["file_name"] for i in found["images"]] == ["a.png", "b.png"]
    assert {a["category_id"] for a in found["annotations"]} == {1}
    named = "--classes", tmp_path / "classes.csv"
    assert run(folder, "--out", tmp_path / "geo", *named)[0] == 0
    _, classes, table = read_geojson(tmp_path / "geo" / "a.geojson", labels.shape)
    assert table.names == ("c1", "c2", "c3", "c4", "c5")
    np.testing.assert_array_equal(classes, labels)
    status, said = run(folder / "a.png", "--out", tmp_path / "png", "--to", "png", *named)
    assert status == 0
    assert "objects of 1 images" in said
    objects = read_labels(tmp_path / "png" / "a.png")
    assert len(np.unique(objects)) >= len(np.unique(labels))  # areas of one class apart
    assert run(folder, "--out", tmp_path / "x", "--to", "tif")[0] == 2
    one = tmp_path / "one.geojson"
    assert run(folder / "a.png", "--out", one, *named)[0] == 0
    assert one.read_bytes() == (tmp_path / "geo" / "a.geojson").read_bytes()
    assert run(folder / "a.png", "--out", tmp_path / "one.png", *named)[0] == 0
    np.testing.assert_array_equal(read_labels(tmp_path / "one.png"), objects)
    for name in ("all.geojson", "one.tif"):  # two images want a folder; no such file is written
        assert run(folder, "--out", tmp_path / name)[0] == 2
        assert not (tmp_path / name).exists()
