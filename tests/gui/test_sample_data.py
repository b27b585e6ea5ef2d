import numpy as np
import pytest

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("key", ["skin", "colon_normal", "colon_low_grade", "breast_1", "breast_2"])
def test_open_sample_gives_an_image_in_microns_and_editable_labels(make_napari_viewer, key):
    viewer = make_napari_viewer()
    viewer.open_sample("napari-pathsam", key)
    image, *labels = list(viewer.layers)
    assert image.rgb
    assert [str(unit) for unit in image.units] == ["micrometer", "micrometer"]
    assert bool(labels) == (key != "skin")
    for layer in labels:
        assert layer.data.shape == image.data.shape[:2]
        assert tuple(layer.scale) == tuple(image.scale)
        assert layer.editable
        layer.data_setitem((np.array([0]), np.array([0])), 1)
        assert layer.data[0, 0] == 1
        assert layer.features["class"].iloc[0] == "background"
    if labels:
        viewer.open_sample("napari-pathsam", key)
        again = viewer.layers[-1]
        assert again.data is not labels[0].data, "painting must not reach the next one opened"
