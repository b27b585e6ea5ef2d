"""Folders of images and labels: pairing by name, and what goes wrong."""

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets import folder_samples


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
