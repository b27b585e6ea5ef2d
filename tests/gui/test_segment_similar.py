"""Find similar: proposals in a layer of their own, reviewed, then accepted in one step."""

from __future__ import annotations

import time

import numpy as np
import pytest
from skimage.draw import disk

from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.similar_work import Proposals

pytestmark = [pytest.mark.gui, pytest.mark.hidden]

SIDE = 512


def gland_labels(glands) -> np.ndarray:
    labels = np.zeros((SIDE, SIDE), np.int32)
    for i, yx in enumerate(glands, start=1):
        labels[disk(yx, 60, shape=labels.shape)] = i
    return labels


@pytest.fixture
def both(dock_of, segment_of, field):
    """A viewer with both docks, and one gland accepted."""
    viewer, annotate, hands = dock_of(field.image, rgb=True, name="H&E", scale=(0.5, 0.5))
    _, dock, _ = segment_of(viewer=viewer)
    dock.view.extent.set_value("whole")
    hands.settle(5)
    mask = gland_labels(field.glands[:1])
    annotate.workspace.accept_objects(mask, Region(0, 0, SIDE, SIDE))
    hands.until(lambda: dock.view.similar.layers.value() is not None)
    return viewer, annotate, dock, hands


def test_proposals_are_reviewed_and_accepted_in_one_step(both, field, monkeypatch):
    viewer, annotate, dock, hands = both
    assert dock.view.similar.layers.value() == viewer.layers["PathSAM objects"]
    region = Region(100, 20, 400, 480)
    labels = gland_labels(field.glands[1:])[region.slices]
    asked = []

    def similar(look, examples):
        asked.append((look, examples))
        return Proposals(region, labels, {1: 0.9, 2: 0.8, 3: 0.6}, "Another model was used.")

    monkeypatch.setattr("napari_pathsam._napari.segment_search.similar_objects", similar)
    dock.view.similar.find_button.click()
    hands.until(lambda: dock.similar.review.layer is not None)
    assert dock.view.status.text() == "Another model was used."
    (example,) = asked[0][1]
    whole = np.zeros((SIDE, SIDE), bool)
    whole[example.region.slices] = example.mask
    np.testing.assert_array_equal(whole, gland_labels(field.glands[:1]) == 1)

    layer = viewer.layers["PathSAM proposals"]
    np.testing.assert_array_equal(layer.data, labels)
    image = viewer.layers["H&E"]
    np.testing.assert_allclose(layer.data_to_world((5, 6)), image.data_to_world((105, 26)))
    assert list(layer.features["score"][1:]) == [0.9, 0.8, 0.6]
    assert not (annotate.workspace.instances > 1).any()  # nothing is accepted yet
    hands.screenshot("40-proposals")

    layer.fill((140 - 100, 370 - 20), 0)  # the person erases one
    assert dock.similar.review.n_shown == 2
    dock.view.similar._score.setValue(70)
    assert set(np.unique(layer.data)) == {0, 2}
    assert dock.view.similar.accept_button.text() == "Accept 1"
    dock.view.similar._score.setValue(0)
    assert set(np.unique(layer.data)) == {0, 2, 3}  # what was erased stays so

    before = annotate.workspace.instances.copy()
    dock.view.similar.accept_button.click()
    hands.settle(3)
    assert "PathSAM proposals" not in viewer.layers
    assert len(annotate.workspace.objects) == 3
    for yx in field.glands[2:]:
        assert annotate.workspace.instances[yx] > 1
    assert annotate.workspace.instances[field.glands[1]] == 0
    hands.screenshot("41-accepted")
    annotate.workspace.undo()
    np.testing.assert_array_equal(annotate.workspace.instances, before)
    annotate.workspace.redo()
    assert len(annotate.workspace.objects) == 3


@pytest.mark.hidden(False)
def test_the_answer_is_in_sight_where_the_window_is_low(both, field, monkeypatch):
    _viewer, _annotate, dock, hands = both
    found = Proposals(Region(0, 0, SIDE, SIDE), gland_labels(field.glands[1:]), {1: 0.9})
    monkeypatch.setattr("napari_pathsam._napari.segment_search.similar_objects", lambda *_: found)
    dock.setFixedHeight(330)
    hands.settle(5)
    view = dock.view
    view.show_widget(view.similar.find_button)
    assert view.similar.accept_button.visibleRegion().isEmpty()
    view.similar.find_button.click()
    hands.until(lambda: dock.similar.review.layer is not None)
    hands.until(lambda: not view.similar.accept_button.visibleRegion().isEmpty())
    view.extent.set_value("shapes")  # of no layer: nothing to look at
    view.similar.find_button.click()
    hands.until(lambda: not view.error_bar.visibleRegion().isEmpty())
    hands.screenshot("42-low-window")


def test_rejecting_leaves_nothing_behind(both, field, monkeypatch):
    viewer, annotate, dock, hands = both
    names = [layer.name for layer in viewer.layers]
    labels = gland_labels(field.glands[1:])
    monkeypatch.setattr(
        "napari_pathsam._napari.segment_search.similar_objects",
        lambda *_: Proposals(Region(0, 0, SIDE, SIDE), labels, {1: 0.9}),
    )
    for end in (dock.view.similar.reject_button.click,
                lambda: viewer.layers.remove("PathSAM proposals")):  # fmt: skip
        dock.view.similar.find_button.click()
        hands.until(lambda: dock.similar.review.layer is not None)
        assert dock.view.similar.accept_button.isVisibleTo(dock)
        end()
        hands.settle(3)
        assert [layer.name for layer in viewer.layers] == names
        assert not dock.view.similar.accept_button.isVisibleTo(dock)
    assert len(annotate.workspace.objects) == 1
    annotate.workspace.undo()
    dock.view.similar.find_button.click()
    hands.settle(3)
    assert "no example" in dock.view.error_bar.text()


def test_a_foreign_labels_layer_of_another_scale_gives_examples(both, field):
    from napari_pathsam._napari.segment_review import examples_in

    viewer, _annotate, dock, _hands = both
    labels = gland_labels(field.glands)[::4, ::4].astype(np.uint8)
    layer = viewer.add_labels(labels, scale=(2, 2), translate=(0.75, 0.75), name="theirs")
    (found,) = examples_in(layer, viewer, dock.source.plane, (SIDE, SIDE), 3)
    whole = np.zeros((SIDE, SIDE), bool)
    whole[found.region.slices] = found.mask
    true = gland_labels(field.glands) == 3
    assert (whole & true).sum() / (whole | true).sum() > 0.9


@pytest.mark.weights
@pytest.mark.hidden(False)
def test_the_packaged_model_finds_other_nuclei(segment_of, dock_of, report):
    from qtpy.QtCore import QEvent, QObject
    from skimage.measure import label, regionprops

    from napari_pathsam._napari.sample_data import breast_2
    from napari_pathsam._napari.torch_import import load_torch
    from napari_pathsam.models.catalogue import load_model

    load_torch()
    (pixels, options, _), (target, _, _) = breast_2()
    viewer, annotate, hands = dock_of(pixels, **options)
    _, dock, _ = segment_of(viewer=viewer)
    dock.view.extent.set_value("whole")
    hands.settle(5)
    nuclei = label(np.asarray(target) > 0)
    middling = sorted(regionprops(nuclei), key=lambda r: abs(r.area - 500))[:3]
    examples = np.isin(nuclei, [r.label for r in middling]) * nuclei
    annotate.workspace.accept_objects(examples, Region.of(examples.shape))
    hands.until(lambda: dock.view.similar.layers.value() is not None)
    dock.load = lambda name, device: load_model("pathsam-nano", device="cpu")

    class Paints(QObject):
        n = 0

        def eventFilter(self, watched, event):
            self.n += event.type() == QEvent.UpdateRequest
            return False

    paints = Paints()
    viewer.window._qt_window.installEventFilter(paints)
    began = time.perf_counter(), time.process_time()
    dock.view.similar.find_button.click()
    hands.until(lambda: dock.runner.idle, 120_000)
    seconds = time.perf_counter() - began[0]
    cpu_s = time.process_time() - began[1]
    report("find_similar", {"seconds": seconds, "cpu_s": cpu_s, "window_paints": paints.n})
    assert paints.n < 5 + 3 * seconds  # a wait is shown, and leaves the processor to the model
    assert not dock.view.error_bar.text()
    assert dock.similar.review.layer is not None
    hands.screenshot("42-similar-nano")
    found = dock.similar.review.shown
    on_nuclei = [(nuclei[found == i] > 0).mean() > 0.5 for i in np.unique(found)[1:]]
    assert len(on_nuclei) >= 10
    assert np.mean(on_nuclei) > 0.6
    dock.view.similar.reject_button.click()
    dock.view.components_button.click()
    hands.until(lambda: "PathSAM embedding" in viewer.layers, 120_000)
    layer = viewer.layers["PathSAM embedding"]
    assert layer.rgb
    extent = np.asarray(viewer.layers[options["name"]].extent.world)
    np.testing.assert_allclose(np.asarray(layer.extent.world), extent, atol=0.5)
    hands.screenshot("43-embedding")
