"""OME-Zarr labels: a valid container, names and colours, and what is there is not lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._ngff_labels import write_ngff_labels
from napari_pathsam.io.slides import ArraySlide, open_slide


@pytest.fixture
def slide(rng: np.random.Generator) -> ArraySlide:
    return ArraySlide(rng.integers(0, 256, (600, 1101, 3), np.uint8), mpp=0.5, name="a.png")


@pytest.fixture
def labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 3, (600, 1101)).astype(np.uint8)


def test_image_and_labels_in_one_container(
    tmp_path: Path, slide: ArraySlide, labels: np.ndarray, class_table: ClassTable
) -> None:
    path = tmp_path / "out.zarr"
    objects = labels.astype(np.int32) * 300
    maps = {"classes": labels, "objects": objects}
    write_ngff_labels(
        path, maps, image=slide, mpp=0.5, classes=class_table, class_of={300: 1, 600: 2}
    )
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]
    root = zarr.open_group(path, mode="r")
    assert root["labels"].attrs["ome"]["labels"] == ["classes", "objects"]
    group = root["labels/classes"]
    assert (group["0"][:] == labels).all()
    assert (root["labels/objects/0"][:] == objects).all()
    about = group.attrs["ome"]
    assert about["version"] == "0.5"
    assert [p["name"] for p in about["image-label"]["properties"]] == ["gland", "stroma"]
    red, green, blue, alpha = about["image-label"]["colors"][1]["rgba"]
    assert bytes([red, green, blue]).hex() == class_table[2].color[1:]
    assert alpha == 255
    properties = root["labels/objects"].attrs["ome"]["image-label"]["properties"]
    assert [(p["label-value"], p["name"]) for p in properties] == [(300, "gland"), (600, "stroma")]
    for level, dataset in enumerate(about["multiscales"][0]["datasets"]):
        shape = group[dataset["path"]].shape
        assert root[str(level)].shape == (3, *shape)
        (transform,) = dataset["coordinateTransformations"]
        assert transform["scale"] == pytest.approx([0.5 * 600 / shape[0], 0.5 * 1101 / shape[1]])
    reopened = open_slide(path)
    assert (reopened.read(Region.of((600, 1101))) == slide.read(Region.of((600, 1101)))).all()
    assert reopened.mpp == pytest.approx(0.5)


def test_labels_join_an_image_that_is_there(
    tmp_path: Path, slide: ArraySlide, labels: np.ndarray, class_table: ClassTable
) -> None:
    path = tmp_path / "out.zarr"
    write_ngff_labels(path, {"classes": labels, "mine": labels}, image=slide, classes=class_table)
    before = (path / "0" / "zarr.json").stat().st_mtime_ns
    write_ngff_labels(path, {"classes": 2 - labels}, image=open_slide(path), classes=class_table)
    root = zarr.open_group(path, mode="r")
    assert (root["labels/classes/0"][:] == 2 - labels).all()
    assert (root["labels/mine/0"][:] == labels).all()
    assert root["labels"].attrs["ome"]["labels"] == ["classes", "mine"]
    assert (path / "0" / "zarr.json").stat().st_mtime_ns == before
    assert not [p for p in path.rglob("*") if ".part" in p.name or p.suffix == ".old"]


def test_a_region(tmp_path: Path, slide: ArraySlide, labels: np.ndarray) -> None:
    region = Region(50, 100, 64, 40)
    write_ngff_labels(
        tmp_path / "r.zarr", {"classes": labels[region.slices]}, image=slide, region=region
    )
    found = open_slide(tmp_path / "r.zarr")
    assert (found.read(Region.of((64, 40))) == slide.read(region)).all()


def test_what_is_in_the_way_stays(tmp_path: Path, slide: ArraySlide, labels: np.ndarray) -> None:
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "thesis.txt").write_text("mine")
    write_ngff_labels(tmp_path / "other.zarr", {"classes": labels}, image=slide)
    small = ArraySlide(np.zeros((20, 20, 3), np.uint8))
    for name, why in (("folder.zarr", "no OME-Zarr"), ("other.zarr", "600 × 1101")):
        with pytest.raises(BadFileError, match=why):
            write_ngff_labels(
                tmp_path / name, {"classes": np.zeros((20, 20), np.uint8)}, image=small
            )
    assert (tmp_path / "folder.zarr" / "thesis.txt").read_text() == "mine"
    with pytest.raises(BadFileError, match="could not be written"):
        write_ngff_labels(tmp_path / "no" / "x.zarr", {"classes": labels}, image=slide)
