"""The packaged sample with the packaged model, as a person meets them first."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.plane import data_to_canvas
from napari_pathsam._napari.sample_data import colon_normal
from napari_pathsam._napari.torch_import import load_torch
from napari_pathsam.core.prompts import innermost_point, iter_objects, tight_box

pytestmark = [pytest.mark.gui, pytest.mark.weights]


@pytest.fixture
def loader():
    from napari_pathsam.models.catalogue import load_model

    def load(name: str, device: str):
        load_torch()  # as the dock's own loader does
        return load_model(name, device)

    return load


def test_glands_of_the_colon_sample(dock_of, loader):
    from skimage.measure import label

    viewer, dock, hands = dock_of(loader=loader)
    target = None
    for data, options, kind in colon_normal():
        if kind == "image":
            viewer.add_image(data, **options)
        else:
            target = label(np.asarray(data) > 0)
    hands.until(lambda: dock.session.image is not None)
    hands.settle(10)
    viewer.fit_to_view()
    hands.settle(5)
    assert dock.view.pixel_size.value()

    def canvas(yx):
        return data_to_canvas(viewer, dock.session.source.now.plane, yx)

    masks = sorted((m for _, m in iter_objects(target)), key=lambda m: -m.sum())[:5]
    ious = []
    for n, mask in enumerate(masks):
        if n % 2 == 0:
            hands.click_canvas(canvas(innermost_point(mask)))
        else:
            dock.workspace.set_box(tight_box(mask))
        hands.until(lambda: dock.runner.idle and dock.workspace.candidate is not None, 60_000)
        if n == 2:
            hands.screenshot("20-real-candidate")
        hands.key("N")
        hands.until(lambda n=n: len(dock.workspace.objects) == n + 1)
        found = dock.workspace.instances == n + 1
        ious.append((found & mask).sum() / (found | mask).sum())
    hands.screenshot("21-real-accepted")
    assert np.median(ious) > 0.5, ious
