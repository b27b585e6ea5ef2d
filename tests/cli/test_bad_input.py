"""What is wrong with labelled images is one readable paragraph that names the file."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.cli import evaluate_run
from napari_pathsam.models import catalogue

SHAPE = (40, 50)


@pytest.fixture
def evaluate(pathsam, tmp_path, tiny_pathsam, monkeypatch):
    """Three parts of a folder data set; the function evaluates its test part."""
    monkeypatch.setattr(catalogue, "load_model", lambda name, device: tiny_pathsam)
    monkeypatch.setattr(evaluate_run, "weights_of", lambda loaded, name: {})
    save(tmp_path / "classes.csv", "id,name\n1,gland\n2,stroma\n")
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:20, 5:30] = 1
    for part in ("train", "test"):
        for n in (1, 2):
            name = f"{part[0]}P{n}_{part}.png"
            save(tmp_path / part / "images" / name, np.full((*SHAPE, 3), 120 + n, np.uint8))
            save(tmp_path / part / "labels" / name, labels)

    def run(*more):
        return pathsam("evaluate", "--dataset", "folder", "--root", tmp_path, "--split", "test",
                       "--mpp", 0.5, *more)  # fmt: skip

    return run


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        Image.fromarray(content).save(path)


def other_size(root):
    save(root / "test/labels/tP1_test.png", np.ones((9, 9), np.uint8))


def unknown_ids(root):
    save(root / "test/labels/tP1_test.png", np.full(SHAPE, 7, np.uint8))


def colours(root):
    coloured = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    save(root / "test/labels/tP1_test.png", coloured)


def no_labels(root):
    (root / "test/labels/tP1_test.png").unlink()


def no_pixels(root):
    (root / "test/images/tP1_test.png").write_bytes(b"")


def twice(root):
    save(root / "test/images/tP1_test.bmp", np.zeros((*SHAPE, 3), np.uint8))


def empty(root):
    for path in (root / "test/images").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (other_size, ("tP1_test.png", "9 × 9", "40 × 50")),
        (unknown_ids, ("tP1_test.png", "ids 7", "none of the classes (gland, stroma)")),
        (colours, ("tP1_test.png", "colour picture")),
        (no_labels, ("tP1_test.png", "no labels")),
        (no_pixels, ("tP1_test.png", "is empty")),
        (twice, ("tP1_test.bmp", "tP1_test.png")),
        (empty, ("test/images", "holds no image")),
    ],
)
def test_it_is_named(evaluate, tmp_path, spoil, says):
    spoil(tmp_path)
    status, _, error = evaluate()
    assert status == 1
    for words in says:
        assert words in error


def test_patients_on_both_sides_are_named(evaluate):
    assert evaluate()[0] == 0  # nothing else is wrong
    status, _, error = evaluate("--group-by", "P[0-9]")
    assert status == 1
    assert "on both sides: P1, P2." in error
