"""Find similar finds the others of a kind; the features' colours are the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.inference.similar import find_similar, likeness, principal_components
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.sam2 import Sam2


@pytest.fixture(scope="module")
def nano() -> Sam2:
    from napari_pathsam.models.catalogue import load_model

    model = load_model("pathsam-nano", "cpu")
    assert isinstance(model, Sam2)
    return model


@pytest.fixture(scope="module")
def nuclei() -> tuple[np.ndarray, np.ndarray]:
    """Real nuclei and their labels, 256²."""
    from napari_pathsam.samples import load_sample

    sample = load_sample("breast_1")
    assert sample.labels is not None
    return sample.image[:256, :256], ndimage.label(sample.labels[:256, :256])[0]


@pytest.fixture(scope="module")
def field(nano: Sam2, nuclei: tuple[np.ndarray, np.ndarray]) -> ImageEmbedding:
    return nano.encode(nuclei[0])


@pytest.mark.slow
def test_from_three_nuclei_to_the_others(
    nano: Sam2, field: ImageEmbedding, nuclei: tuple[np.ndarray, np.ndarray]
) -> None:
    labels = nuclei[1]
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    middling = np.argsort(np.abs(sizes - np.median(sizes[sizes > 60])))[:3]
    examples = [labels == label for label in middling]
    alike = likeness(field, examples)
    assert alike.shape == (2 * field.image_embed.shape[-2], 2 * field.image_embed.shape[-1])
    found = find_similar(nano, field, examples)
    scores = [c.score for c in found]
    assert len(found) >= 5
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] >= 0.5
    others = (labels > 0) & ~np.isin(labels, middling)
    masks = [c.in_field((256, 256)) for c in found]
    hits = [m[others].sum() / m.sum() > 0.5 for m in masks]
    assert np.mean(hits) > 1.5 * others.mean()
    assert not any((m & e).sum() > 0.5 * m.sum() for m in masks for e in examples)
    assert np.max(np.sum(masks, axis=0)) <= 3
    assert len(find_similar(nano, field, examples, at_most=2)) == 2


def test_nothing_to_go_by(nano: Sam2, field: ImageEmbedding) -> None:
    with pytest.raises(BadPromptError, match="at least one object"):
        find_similar(nano, field, [np.zeros((256, 256), bool)])


def test_colours_of_the_features(field: ImageEmbedding) -> None:
    picture = principal_components(field)
    assert (picture.shape, picture.dtype) == ((256, 256, 3), np.uint8)
    assert (picture == principal_components(field)).all()
    assert all(picture[..., c].min() < 20 and picture[..., c].max() > 235 for c in range(3))
