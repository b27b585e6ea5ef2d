import numpy as np
import pytest

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.samples import list_samples, load_sample

NAMES = [info.name for info in list_samples()]


@pytest.mark.parametrize("name", NAMES)
def test_each_sample_is_tissue_with_credit(name):
    sample = load_sample(name)
    assert sample.image.ndim == 3
    assert sample.image.shape[2] == 3
    assert sample.image.dtype == np.uint8
    assert sample.image.std() > 20, "a flat picture is no tissue"
    assert 0.2 < sample.mpp < 2
    assert sample.info.attribution
    assert sample.info.source.startswith("https://")


@pytest.mark.parametrize("name", NAMES)
def test_labels_fit_the_image_and_the_classes(name):
    sample = load_sample(name)
    if not sample.info.classes:
        assert sample.labels is None
        return
    assert sample.labels.shape == sample.image.shape[:2]
    assert set(np.unique(sample.labels)) == {0, *(info.id for info in sample.class_table)}
    # Nuclei and glandular epithelium are the darker part of H&E.
    labelled = sample.labels > 0
    assert sample.image[labelled].mean() < sample.image[~labelled].mean()


def test_there_is_skin_colon_and_breast():
    assert [name.split("_")[0] for name in NAMES] == ["skin", "colon", "colon", "breast", "breast"]


def test_an_unknown_sample_is_answered_with_the_known_ones():
    with pytest.raises(UnavailableError, match=r"liver.*skin.*breast_2"):
        load_sample("liver")
