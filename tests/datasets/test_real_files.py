"""The readers on the real files that lie beside the checkout where the project is built."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam.datasets import DATASETS, open_dataset, recognise
from napari_pathsam.datasets.ahead import read_ahead
from napari_pathsam.datasets.base import leaking

FOLDERS = {"glas": "glas", "ebhi-seg": "ebhi_seg", "tnbc": "tnbc", "crc-tissue": "crc_tissue"}
IMAGES = {
    ("glas", "train"): 85, ("glas", "testA"): 60, ("ebhi-seg", "val"): 249, ("tnbc", "val"): 10,
    ("crc-tissue", "fold"): 385, ("crc-tissue", "unseen"): 70,
}  # fmt: skip
GROUPS = {("glas", "testA"): 9, ("ebhi-seg", "val"): 42, ("tnbc", "val"): 2}


@pytest.fixture(params=FOLDERS)
def name(request):
    return request.param


@pytest.fixture
def root(name, shared_data):
    return shared_data / FOLDERS[name]


def test_it_is_told_by_its_files_and_split_as_published(name, root):
    assert recognise(root) is DATASETS[name]
    for (which, split), n in IMAGES.items():
        if which == name:
            samples = open_dataset(name, root, split)
            assert len(samples) == n
            if (which, split) in GROUPS:
                assert len({s.group for s in samples}) == GROUPS[which, split]
    leaks = leaking(DATASETS[name].images(root))
    assert bool(leaks) == (name == "glas")  # the publishers' split has patients on both sides


def test_images_have_labels_of_their_size_and_kind(name, root):
    samples = open_dataset(name, root, "all")
    some = samples[:: max(1, len(samples) // 4)]
    for sample, (image, labels) in read_ahead(some):
        assert image.shape == (*labels.shape, 3)
        assert 60 < image.mean() < 250  # tissue: neither black nor blank
        ids = np.unique(labels)
        if sample.homogeneous:
            assert ids.tolist() == [sample.class_id]
        elif sample.label_kind == "binary":
            assert len(ids) <= 2
        else:
            assert ids[0] == 0
            assert len(ids) > 1
        tissue = image[labels > 0].mean() if (labels > 0).any() else 0
        assert sample.homogeneous or tissue < image[labels == 0].mean() + 40  # not shifted to glass


@pytest.mark.parametrize(("name", "problems"), [("glas", 1), ("tnbc", 1)])
def test_verify_says_what_of_the_whole_is_not_here(name, root, problems):
    """Parts of them are kept back: nothing else is wrong."""
    found = DATASETS[name].verify(root)
    assert len(found) == problems
    assert "the complete data set has" in found[0]
