"""COCO files: outlines, run lengths packed or not, classes, and what goes wrong."""

import json

import numpy as np
import pytest

from napari_pathsam.datasets import dataset, open_dataset
from napari_pathsam.datasets.coco import unpacked


def packed(counts):
    """COCO's text of run lengths, written from its description: five bits a character."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


@pytest.mark.parametrize("seed", range(5))
def test_packed_and_plain_run_lengths_agree(layouts, seed):
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((7, 5)) < 0.4, np.ones((9, 13), bool))
    counts = layouts.runs(mask)
    for written in (counts, packed(counts), packed(counts).encode()):
        np.testing.assert_array_equal(unpacked(written, mask.shape), mask)


def test_objects_and_classes(folder, layouts):
    layouts.coco(folder)
    (sample, *_) = open_dataset("coco", folder.root, "train")
    np.testing.assert_array_equal(sample.load()[1], layouts.OBJECTS)
    classes = dataset("coco", "classes", folder.root)
    assert classes.classes == ("gland", "vessel")
    labels = classes.samples(folder.root, "val")[0].load()[1]
    assert set(labels[layouts.OBJECTS == 1]) == {2}
    assert set(labels[layouts.OBJECTS == 2]) == {1}
    assert (classes.default_split, classes.train_split, classes.val_split) == (
        "all",
        "train",
        "val",
    )


def test_one_file_beside_its_images(folder, layouts):
    layouts.coco(folder)
    (folder.root / "annotations" / "instances_val.json").rename(folder.root / "val" / "labels.json")
    (folder.root / "annotations" / "instances_train.json").unlink()
    assert [s.name for s in open_dataset("coco", folder.root / "val")] == ["c.png"]


def changed(folder, change):
    path = folder.root / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["annotations"][1]["segmentation"].update(counts=[5, 5]), "add up to 10"),
        (
            lambda c: c["annotations"][1]["segmentation"].update(size=[3, 3]),
            r"its size is \[3, 3\]",
        ),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3]]), "neither outlines nor"),
        (lambda c: c["annotations"][0].update(category_id=99), "category 99 .*there is none"),
        (lambda c: c["images"].append(c["images"][0]), "two images of the id 1"),
        (lambda c: c["images"][0].update(file_name="gone.png"), r"lists the image gone\.png"),
        (lambda c: c["categories"][0].update(name="duct"), "calls category 7 'duct'"),
        (lambda c: c.pop("categories"), "has no categories"),
        (lambda c: c["images"][0].update(height=9), "9 × 30|add up|its size"),
    ],
)
def test_what_does_not_fit_names_the_file(folder, layouts, change, told):
    layouts.coco(folder)
    path = changed(folder, change)
    with pytest.raises(ValueError, match=f"{path.name}.*({told})|({told}).*{path.name}"):
        [s.load() for s in open_dataset("coco", folder.root, "all")]
