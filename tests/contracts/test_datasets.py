"""What every data set keeps, on small copies of their official layouts."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.datasets import DATASETS, dataset, open_dataset, recognise
from napari_pathsam.datasets.base import UNKNOWN_ID, Sample, leaking, overriding

TARGETS = [(name, target) for name, d in DATASETS.items() for target in (None, *d.targets)]


@pytest.fixture
def root(request, folder, layouts):
    layouts.BUILD[request.getfixturevalue("name")](folder)
    return folder.root


@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_samples_are_what_they_say(name, target, root):
    data = dataset(name, target, root)
    samples = data.samples(root, "all")
    assert len({s.name for s in samples}) == len(samples) > 0
    known = {0, UNKNOWN_ID, *range(1, len(data.classes) + 1)}
    labelled = False
    for sample in samples:
        image, labels = sample.load()
        assert image.shape == (*labels.shape, 3)
        assert image.dtype == np.uint8
        assert labels.dtype.kind in "ui"
        assert sample.label_kind == data.label_kind
        if sample.label_kind == "classes":
            assert set(np.unique(labels)) <= known
            labels = labels % UNKNOWN_ID
        labelled |= bool(labels.any())
        assert sample.mpp == data.mpp or sample.split.startswith("fold")
        assert pickle.loads(pickle.dumps(sample)) == sample  # travels to worker processes
    assert labelled
    assert samples == data.samples(root, "all")


@pytest.mark.parametrize("name", DATASETS)
def test_splits_part_the_samples_and_no_group(name, root):
    data = dataset(name, root=root)
    everything = data.samples(root, "all")
    parts = {s.split: data.samples(root, s.split) for s in everything}
    assert sum(map(len, parts.values())) == len(everything)
    assert data.samples(root) == data.samples(root, data.default_split)
    assert data.samples(root, data.train_split)
    if data.val_split is not None:
        held_out = {s.group for s in data.samples(root, data.val_split)}
        assert held_out
        assert held_out.isdisjoint(s.group for s in data.samples(root, data.train_split))
    assert data.official_split or not leaking(everything)
    if data.default_split != "all":
        assert data.train_split != data.default_split
    with pytest.raises(BadFileError, match=f"{data.name} has no split 'middle'"):
        data.samples(root, "middle")


@pytest.mark.parametrize("name", DATASETS)
def test_is_recognised_by_its_layout_and_says_all_about_itself(name, root):
    data = DATASETS[name]
    assert recognise(root) is data
    for said in (data.title, data.licence, data.citation, data.url, data.layout, data.notes):
        assert said.strip()
    assert data.classes
    assert re.match(r"https://|none", data.url)


@pytest.mark.parametrize("name", DATASETS)
def test_another_s_folder_is_refused_with_the_layout(name, tmp_path):
    with pytest.raises(BadFileError, match="Its layout is"):
        DATASETS[name].samples(tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_verify_counts_and_names_what_is_damaged(name, root):
    data = DATASETS[name]
    assert all("the complete data set has" in problem for problem in data.verify(root))
    assert bool(data.verify(root)) == bool(data.expected)
    broken = data.images(root)[0]
    broken.image_path.write_bytes(broken.image_path.read_bytes()[:120])
    assert any(broken.image_path.name in problem for problem in data.verify(root))


@pytest.mark.parametrize("name", DATASETS)
def test_missing_labels_name_the_file(name, root):
    lost = DATASETS[name].images(root)[-1]
    if lost.labels_path is None:
        pytest.skip("these images have no labels of their own")
    lost.labels_path.unlink()
    if name == "coco":
        pytest.skip("each part has a file of its own, and without it is not there")
    words = f"{lost.image_path.stem}|{lost.labels_path.name}"
    if name == "catch":  # without its one file of labels it is not that data set
        words += "|layout"
    with pytest.raises((BadFileError, BadImageError), match=words):
        [s.load() for s in open_dataset(name, root, "all")]


@pytest.mark.parametrize("name", ["glas", "crag", "ebhi-seg", "bcss", "cryonuseg", "nuinsseg",
                                  "tnbc", "folder"])  # fmt: skip
def test_sizes_that_differ_are_told_with_both_files(name, root, folder):
    sample = open_dataset(name, root, "all")[0]
    relative = sample.labels_path.relative_to(folder.root)
    folder.save(str(relative), np.ones((5, 30), np.uint8))
    with pytest.raises(BadImageError, match=f"{sample.image_path.name}.*5 × 30"):
        sample.load()
    assert any("5 × 30" in problem for problem in DATASETS[name].verify(root))


@pytest.mark.parametrize("name", DATASETS)
def test_a_model_is_measured_and_taught_on_it(name, root, tiny_pathsam):
    from napari_pathsam.evaluation.classes import ClassSettings, evaluate_classes
    from napari_pathsam.training.class_data import load_images

    data = dataset(name, root=root)
    classes = ClassTable.of(*data.classes)
    (sample,) = overriding(data.samples(root)[:1], mpp=0.5)
    model_to_labels = {tiny_pathsam.classes.names[0]: data.classes[0]}
    settings = ClassSettings(mapping=model_to_labels, split=False)
    small: Sample = replace(sample, reader=_Corner(sample.reader))
    (score,) = evaluate_classes(tiny_pathsam, [small], settings, classes=classes)
    assert score.counts.sum() > 0
    (image,) = load_images([small], classes, mpp=0.5)
    assert image.target.max() >= 0


@pytest.mark.parametrize("name", DATASETS)
def test_pathsam_train_finds_its_splits_classes_and_pixel_size(name, root):
    from typer import BadParameter

    from napari_pathsam.cli.train_sources import mpp_of, sources_of
    from napari_pathsam.training.class_recipe import ClassSource

    data = dataset(name, root=root)
    roots, source, held_out, classes = sources_of(
        None, None, None, name, [str(root)], None, None, None, None
    )
    assert classes.names == data.classes
    learned = ClassSource(**source).samples(roots, classes)
    assert learned == data.samples(root, data.train_split)
    assert (held_out is None) == (data.val_split is None)
    if held_out is not None:
        assert ClassSource(**held_out).samples(roots, classes) == data.samples(root, data.val_split)
    if name in ("coco", "folder"):
        with pytest.raises(BadParameter, match="pixel size"):
            mpp_of(source, roots)
    else:
        assert mpp_of(source, roots) == (learned[0].mpp or learned[0].nominal_mpp)


class _Corner:
    """Reads at most 100 × 100 pixels: slides give more than a quick test needs."""

    def __init__(self, reader):
        self.reader = reader

    def __call__(self, sample):
        image, labels = self.reader(sample)
        return image[:100, :100], labels[:100, :100]
