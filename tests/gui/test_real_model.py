"""The packaged sample with the packaged model, as a person meets them first."""

from __future__ import annotations

import sys
import time

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


def test_packaged_heads_on_the_colon_sample(segment_of):
    (pixels, options, _), (labels, _, _) = colon_normal()
    _, dock, hands = segment_of(pixels, model=None, **options)
    heads = dock.view.heads
    hands.until(lambda: any(h.name == "pathsam-nano:glands" for h in heads.heads()), 60_000)
    assert heads.value() is None
    heads.set_value("pathsam-nano:glands")
    heads.value_changed.emit()
    dock.view.extent.set_value("whole")

    def run():
        dock.view.run_button.click()
        hands.until(lambda: dock.runner.idle and not dock.segmenting.running, 120_000)
        assert not dock.view.error_bar.text()
        return dock.segmenting.result_of(dock.source.key, heads.value().name)

    glands, truth = np.asarray(run().class_map.shown) > 0, np.asarray(labels) > 0
    dice = 2 * (glands & truth).sum() / (glands.sum() + truth.sum())
    assert dice > 0.85, dice
    hands.screenshot("50-real-glands")
    heads.set_value("pathsam-nano:lesions")
    heads.value_changed.emit()
    began = time.process_time()
    run()
    sys.stdout.write(f"\nanother head: {time.process_time() - began:.2f} CPU s\n")
    assert "already" in dock.view.encoding.text()
    hands.screenshot("51-real-lesions")
