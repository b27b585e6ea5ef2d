"""The Annotate dock when layers go, work is cancelled, files and models fail; in a real viewer."""

from __future__ import annotations

import numpy as np
import pytest

from .conftest import SCREENSHOTS  # noqa: TID252
from .test_annotate import click_and_accept, ready  # noqa: TID252

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


def test_the_image_goes_while_work_runs(dock_of, field, model):
    viewer, dock, hands = dock_of(field.image, rgb=True, name="H&E")
    click_and_accept(dock, hands, field.lumen)
    dock.workspace.forget_embeddings()
    model.may_encode.clear()
    hands.click(field.glands[1])
    assert dock.workspace.busy
    viewer.layers.remove("H&E")
    hands.settle(10)
    model.may_encode.set()
    ready(dock, hands)
    hands.settle(10)
    assert dock.session.image is None
    assert not dock.view.error_bar.text()
    assert [layer.name for layer in viewer.layers] == ["PathSAM classes", "PathSAM objects"]
    viewer.layers.clear()
    viewer.add_image(field.image, rgb=True, name="again")
    hands.until(lambda: dock.session.image is not None)
    assert len(dock.workspace.objects) == 1  # what was accepted is back without a question
    assert not dock.view.restore_bar.text()


@pytest.mark.parametrize("upside_down", [False, True])
def test_all_layers_may_be_deleted_at_once(dock_of, field, upside_down):
    viewer, dock, hands = dock_of(field.image, rgb=True, name="H&E")
    click_and_accept(dock, hands, field.lumen)
    if upside_down:
        viewer.layers.reverse()
    viewer.layers.selection = set(viewer.layers)
    viewer.layers.remove_selected()
    other = viewer.add_image(field.image[::-1], rgb=True, name="another")
    hands.until(lambda: dock.session.image == other)
    assert not dock.view.error_bar.text()
    click_and_accept(dock, hands, field.glands[1])
    assert "PathSAM objects" in viewer.layers


def test_layers_of_ours_may_be_deleted(dock_of, field):
    viewer, dock, hands = dock_of(field.image, rgb=True)
    click_and_accept(dock, hands, field.lumen)
    for name in ("PathSAM points", "PathSAM objects", "PathSAM candidate"):
        viewer.layers.remove(name)
    hands.settle()
    assert dock.view.stray_bar.text()
    hands.key("G")
    click_and_accept(dock, hands, field.glands[1])
    assert "PathSAM objects" in viewer.layers
    assert len(dock.workspace.objects) == 2


@pytest.mark.hidden(False)
def test_cancel_and_a_newer_prompt_while_encoding(dock_of, field, model):
    model.may_encode.clear()
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    hands.click(field.lumen)
    hands.until(lambda: bool(dock.workspace.busy))
    assert dock.view.candidate.cancel_button.isVisible()
    hands.screenshot("9-encoding")
    hands.key("Escape")
    assert dock.workspace.busy is None
    model.may_encode.set()
    ready(dock, hands)
    assert dock.workspace.candidate is None
    assert len(dock.session.prompts.points.data) == 1
    model.may_encode.clear()
    hands.click((132, 132))
    hands.click((128, 128))
    model.may_encode.set()
    hands.until(lambda: dock.workspace.candidate is not None)
    ready(dock, hands)
    assert len(dock.workspace.prompts.points_yx) == 3


def test_saved_work_is_offered_in_a_bar(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    click_and_accept(dock, hands, field.lumen)
    labels = dock.workspace.instances.copy()
    dock.shut_down()
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    assert "1 object" in dock.view.restore_bar.text()
    hands.screenshot("10-restore")
    dock.workspace.restore()
    hands.until(lambda: dock.workspace.restorable is None)
    np.testing.assert_array_equal(dock.workspace.instances, labels)
    assert not dock.view.restore_bar.text()
    shown = dock.session.labels.layers["instances"]
    np.testing.assert_array_equal(shown.data, labels)
    hands.settle()
    drawn = shown._slice.image  # in the colours of their classes, not as unknown ids
    assert drawn.view.any()
    np.testing.assert_array_equal(drawn.view, shown._raw_to_displayed(drawn.raw))


def test_export(dock_of, field, tmp_path):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    click_and_accept(dock, hands, field.lumen)
    for kind, name in (("geojson", "o.geojson"), ("instances", "o.tif"), ("classes", "c.png")):
        dock.export(kind, tmp_path / name)
        hands.until(lambda: dock._files.idle)
        assert (tmp_path / name).stat().st_size > 0, dock.view.error_bar.text()
        assert "Written" in dock.view.status.text()
    dock.export("geojson", tmp_path / "no" / "such" / "folder.geojson")
    hands.until(lambda: dock._files.idle)
    assert "folder.geojson" in dock.view.error_bar.text()


def test_a_click_outside_says_so_and_leaves_no_marker(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    hands.click((-12.0, 200.0))
    hands.settle()
    assert "outside" in dock.view.error_bar.text()
    assert len(dock.session.prompts.points.data) == 0


def test_the_model_fails_in_a_readable_way(dock_of, field):
    from napari_pathsam._napari.torch_import import torch_error_text
    from napari_pathsam.core.errors import UnavailableError

    def loader(name, device):
        raise UnavailableError(torch_error_text(OSError("[WinError 1114] c10.dll")))

    _viewer, dock, hands = dock_of(field.image, rgb=True, loader=loader)
    hands.click(field.lumen)
    hands.until(lambda: bool(dock.view.error_bar.text()))
    assert "napari-pathsam" in dock.view.error_bar.text()
    hands.screenshot("11-error")


def test_the_dock_without_an_image_waits_for_one(dock_of, field):
    viewer, dock, hands = dock_of()
    assert not dock.view.tools.isEnabled()
    hands.screenshot("12-empty")
    dock.show_keys()
    hands.settle()
    if SCREENSHOTS:
        dock._cheat_sheet.grab().save(f"{SCREENSHOTS}/13-keys.png")
    viewer.add_image(field.image, rgb=True)
    hands.until(lambda: dock.session.image is not None)
    assert dock.view.tools.isEnabled()
