"""A click goes out before its marker is drawn; marker and candidate then come together."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_pathsam._napari.prompt_marks import NEGATIVE, POSITIVE

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


@pytest.fixture
def may_answer(model, monkeypatch):
    """While this event is cleared the model has not decoded."""
    decode = model.decode_prompts
    event = threading.Event()
    event.set()

    def late(*args, **options):
        assert event.wait(60)
        return decode(*args, **options)

    monkeypatch.setattr(model, "decode_prompts", late)
    return event


@pytest.fixture
def ready(dock_of, field, may_answer):
    """The field is encoded, nothing is prompted."""
    viewer, dock, hands = dock_of(field.image, rgb=True)
    hands.click(field.lumen)
    hands.until(lambda: dock.workspace.candidate is not None)
    dock.workspace.reject()
    hands.until(lambda: dock.runner.idle)
    return viewer, dock, hands


def signs(layer) -> list[str]:
    return [str(s) for s in layer.features["label"]]


def test_a_marker_comes_with_the_candidate(ready, field, may_answer):
    _, dock, hands = ready
    points = dock.session.prompts.points
    dock.session._marker_timer.setInterval(60_000)
    may_answer.clear()
    hands.click(field.lumen)
    assert len(dock.workspace.prompts.points_yx) == 1  # it is being answered
    assert len(points.data) == 0
    may_answer.set()
    hands.until(lambda: dock.workspace.candidate is not None)
    assert len(points.data) == 1
    assert not dock.session._marker_timer.isActive()
    assert dock.session.candidate.shown
    np.testing.assert_allclose(points.data[0], dock.workspace.prompts.points_yx[0])
    assert points.selected_data == {0}  # as after a click of napari's own


def test_a_marker_does_not_wait_for_a_slow_answer(ready, field, may_answer):
    _, dock, hands = ready
    points = dock.session.prompts.points
    may_answer.clear()
    hands.click(field.lumen)
    hands.until(lambda: len(points.data) == 1)
    assert dock.workspace.candidate is None
    may_answer.set()
    hands.until(lambda: dock.workspace.candidate is not None)
    assert len(points.data) == 1


def test_what_happens_meanwhile_is_not_lost(ready, field, may_answer):
    """A second click, a point taken out, an undo, while a marker is still to be drawn."""
    _, dock, hands = ready
    points, workspace = dock.session.prompts.points, dock.workspace
    hands.click(field.lumen)
    hands.until(lambda: workspace.candidate is not None)
    dock.session._marker_timer.setInterval(60_000)
    may_answer.clear()
    hands.click(field.glands[1])
    hands.click(field.glands[2], modifiers=[shift()])
    assert len(points.data) == 1
    assert workspace.prompts.positive == (True, True, False)
    points.selected_data = {0}
    points.remove_selected()
    hands.settle(2)
    assert workspace.prompts.positive == (True, False)
    may_answer.set()
    hands.until(lambda: workspace.answered)
    hands.until(lambda: len(points.data) == 2)
    assert signs(points) == [POSITIVE, NEGATIVE]
    may_answer.clear()
    hands.click(field.glands[3])
    workspace.undo()
    may_answer.set()
    assert len(points.data) == 2
    assert str(points.feature_defaults["label"][0]) == POSITIVE


def shift():
    from vispy.util.keys import SHIFT

    return SHIFT


def test_a_drag_is_no_click(ready, field):
    _, dock, hands = ready
    start = np.asarray(field.lumen)
    hands.drag([start, start + 20, start + 60])
    assert not dock.workspace.prompts.points_yx
    assert len(dock.session.prompts.points.data) == 0


def test_peeking_gives_the_candidate_back(ready, field):
    _, dock, hands = ready
    hands.click(field.lumen)
    hands.until(lambda: dock.session.candidate.shown)
    release = dock.session.peek()
    assert not dock.session.candidate.shown
    release()
    assert dock.session.candidate.shown


def test_another_candidate_makes_the_viewer_measure_nothing(ready, field):
    """Its extent would be measured with all layers', and the layer list painted, at every click."""
    viewer, dock, hands = ready
    hands.click(field.lumen)
    hands.until(lambda: dock.session.candidate.shown)
    layer, drawn, heard = dock.session.candidate.layer, [], []
    layer.events.set_data.connect(lambda event: drawn.append(event.source.data.shape))
    for name in ("data", "scale", "translate", "extent", "thumbnail"):
        layer.events[name].connect(lambda event: heard.append(event.type))
    before = viewer.layers.extent.world.copy()
    dock.workspace.cycle_mask()
    dock.workspace.cycle_mask()
    hands.settle(3)
    assert len(drawn) == 2
    assert not heard
    np.testing.assert_allclose(viewer.layers.extent.world, before)
    candidate = dock.workspace.candidate
    at = np.asarray(candidate.translate_yx)
    inside = np.argwhere(candidate.mask)[0]
    world = layer.world_to_data(viewer.layers[0].data_to_world(at + inside * candidate.scale_yx))
    assert layer.data[tuple(np.round(world).astype(int))][3] > 0


def test_all_shapes_of_a_layer_become_objects(ready, field):
    viewer, dock, hands = ready
    boxes = [np.array([(y - 70, x - 70), (y + 70, x + 70)]) for y, x in field.glands]
    shapes = viewer.add_shapes(boxes, shape_type="rectangle", name="boxes", edge_color="yellow",
                               face_color="transparent", edge_width=3)  # fmt: skip
    shapes.add_paths(np.array([(5.0, 5.0), (60.0, 60.0)]))  # a line encloses nothing
    dock.view.boxes_button.click()
    assert "Choose a shapes layer" in dock.view.error_bar.text()
    dock.view.error_bar.say("")
    dock.view.shapes_layer.set_value(shapes)
    dock.view.shapes_layer.value_changed.emit(shapes)
    dock.view._own_layers.show()
    dock.view.boxes_button.click()
    assert "Cancel" in dock.view.boxes_button.text()
    hands.until(lambda: not dock.workspace.answering_boxes)
    assert not dock.view.error_bar.text()
    assert len(dock.workspace.objects) == len(field.glands)
    assert "4 of 4" in dock.view.status.text()
    assert "→" in dock.view.boxes_button.text()
    assert len(shapes.data) == 5  # the person's own drawing stays
    hands.screenshot("16-boxes-of-a-layer")
    hands.key("Ctrl+Z")
    assert not dock.workspace.objects
