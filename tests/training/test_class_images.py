"""Samples as training images: what stays in memory, what workers read, what is known unread."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.datasets import folder_samples
from napari_pathsam.datasets.ahead import EACH, Ahead, read_ahead
from napari_pathsam.training.class_fit import ClassTrainer
from napari_pathsam.training.class_images import ImageStore, load_images


@pytest.fixture
def samples(tmp_path: Path):
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for n in range(6):
        pixels = rng.integers(0, 256, (48 + n, 64, 3)).astype(np.uint8)
        labels = np.zeros((48 + n, 64), np.uint8)
        labels[10:30, 10 : 30 + n] = 1 + n % 2
        Image.fromarray(pixels).save(tmp_path / "images" / f"{n}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{n}.png")
    return folder_samples(tmp_path / "images", tmp_path / "labels", label_kind="classes")


def same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert (one.name, one.group) == (other.name, other.group)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.target, other.target)


def test_a_small_store_forgets_and_reads_again(samples, class_table):
    store = ImageStore(limit_bytes=2 * 55 * 64 * 5)
    images = load_images(samples, class_table, mpp=0.5, store=store)
    assert len(images) == 6
    assert len(store) == 2
    whole = load_images(samples, class_table, mpp=0.5)
    same(images, whole)
    assert len(store) == 2
    assert [i.shape_yx for i in images] == [i.target.shape for i in whole]


def test_facts_need_no_pixels(samples, class_table):
    images = load_images(samples, class_table, mpp=0.5, store=ImageStore(limit_bytes=1))
    for sample in samples:
        sample.image_path.unlink()
    assert [i.channels for i in images] == [frozenset({0, 1 + n % 2}) for n in range(6)]
    assert images[0].foreground == pytest.approx(20 * 20 / (48 * 64))
    assert images[3].shape_yx == (51, 64)
    with pytest.raises(BadFileError, match=r"0\.png"):
        assert images[0].image is None


def test_ids_of_objects_are_kept_where_they_are_wanted(samples):
    from dataclasses import replace

    instances = [replace(s, label_kind="instances") for s in samples]
    table = ClassTable.of("gland")
    (one, *_) = load_images(instances, table, mpp=1.0, assumed_mpp=0.5, objects=True)
    assert one.objects.shape == one.target.shape == (24, 32)
    np.testing.assert_array_equal(one.objects > 0, one.target > 0)
    assert load_images(instances, table, mpp=0.5)[0].objects is None


def test_workers_read_the_same_and_images_travel(samples, class_table):
    images = load_images(samples, class_table, mpp=0.5, workers=2)
    same(images, load_images(samples, class_table, mpp=0.5))
    same(pickle.loads(pickle.dumps(images)), images)
    assert len(pickle.dumps(images)) < 20_000  # names, not pixels
    for (sample, (image, _)), one in zip(read_ahead(samples, workers=1), images, strict=True):
        assert sample.name == one.name
        np.testing.assert_array_equal(image, one.image)


def test_what_is_wrong_in_a_worker_is_told_here(samples, class_table):
    samples[4].labels_path.write_bytes(b"damaged")
    with pytest.raises((BadFileError, BadImageError), match=r"4\.png"):
        load_images(samples, class_table, mpp=0.5, workers=2)


def test_no_more_is_done_ahead_than_asked_for():
    given = []

    def items():
        for n in range(40):
            given.append(n)
            yield n

    with Ahead(os.strerror, workers=1) as ahead:
        answers = ahead.map(items())
        assert next(answers) == os.strerror(0)
        assert len(given) == EACH
        assert list(answers) == [os.strerror(n) for n in range(1, 40)]


def test_patches_are_the_same_with_workers(samples, class_table, tiny_pathsam, quick, monkeypatch):
    config = quick.model_copy(update={"variants": None, "patch_px": 32, "batch": 4})
    images = load_images(samples, class_table, mpp=0.5)
    seen = []
    for workers in (0, 1):
        trainer = ClassTrainer(tiny_pathsam, images, (), config, workers=workers)
        monkeypatch.setattr(trainer.features, "_made", lambda pixels: pixels)
        monkeypatch.setattr("napari_pathsam.training.class_trainer.ClassTrainer.train_step",
                            lambda self, items: self.features.batch(items))  # fmt: skip
        seen.append(list(trainer.train_epoch()))
        assert bool(trainer.features._ready) == bool(workers)
        trainer.close()
    assert [len(pixels) for pixels, _ in seen[0]] == [4, 2]
    for ours, theirs in zip(*seen, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
