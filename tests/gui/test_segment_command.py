"""The command “Segment all classes”, and what “Copy as” copies: it runs, and gives the same."""

from __future__ import annotations

import shlex
import sys

import numpy as np
import pytest
from npe2 import PluginManifest
from PIL import Image

from napari_pathsam.io.images import read_labels
from napari_pathsam.workspace.segment_request import SegmentOptions

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


@pytest.fixture
def loaded(tiny_pathsam, monkeypatch):
    """``load_model`` gives the small model, whatever is asked for."""
    monkeypatch.setattr("napari_pathsam.models.catalogue.load_model",
                        lambda name, device="auto": tiny_pathsam)  # fmt: skip
    monkeypatch.setitem(__import__("napari_pathsam").__dict__, "load_model",
                        lambda name, device="auto": tiny_pathsam)  # fmt: skip
    return tiny_pathsam


@pytest.fixture
def file(field, tmp_path):
    path = tmp_path / "a field.png"
    Image.fromarray(np.ascontiguousarray(field.image[:240, :300])).save(path)
    return path


def action(viewer):
    def walk(menu):
        for each in menu.actions():
            if each.menu() is not None:
                yield from walk(each.menu())
            else:
                yield each

    viewer.window._update_layers_menu_state()
    return next(a for a in walk(viewer.window.layers_menu) if "Segment all classes" in a.text())


def docks_of(viewer):
    from napari_pathsam._napari.segment import SegmentDock

    return [w for w in viewer.window.dock_widgets.values() if isinstance(w, SegmentDock)]


def test_the_menu_has_it_and_greys_it_without_an_image(make_napari_viewer, qtbot, rng):
    viewer = make_napari_viewer(show=True)
    assert not action(viewer).isEnabled()
    image = viewer.add_image(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), rgb=True)
    assert action(viewer).isEnabled()
    viewer.layers.selection.active = viewer.add_points(np.empty((0, 2)))
    assert action(viewer).isEnabled()  # there is an image, selected or not
    action(viewer).trigger()
    docks = docks_of(viewer)
    assert len(docks) == 1
    assert docks[0].image == image
    assert "Choose what to find" in docks[0].view.error_bar.text()
    action(viewer).trigger()
    assert docks_of(viewer) == docks
    qtbot.waitUntil(lambda: docks[0].runner.idle, timeout=120_000)
    assert docks[0].view.heads.heads()
    assert "Choose what to find" in docks[0].view.error_bar.text()  # the list came later
    docks[0].shut_down()


def test_an_image_that_is_not_selected_is_enough(make_napari_viewer, rng):
    viewer = make_napari_viewer()
    viewer.add_image(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), rgb=True)
    viewer.layers.selection.clear()
    assert action(viewer).isEnabled()


def test_without_an_image_the_command_says_so(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    viewer.add_labels(np.zeros((10, 10), int))
    assert not action(viewer).isEnabled()
    viewer.add_labels(np.zeros((10, 10), int))
    assert action(viewer).isEnabled()  # napari cannot tell what the other layer is
    action(viewer).trigger()
    (dock,) = docks_of(viewer)
    qtbot.waitUntil(lambda: dock.runner.idle, timeout=120_000)
    assert "There is no image yet" in dock.view.error_bar.text()
    dock.shut_down()


def test_every_menu_of_the_manifest_is_one_napari_shows():
    from napari._app_model.constants import MenuId

    manifest = PluginManifest.from_distribution("napari-pathsam")
    assert set(manifest.contributions.menus) <= set(MenuId.contributables())
    commands = {c.id for c in manifest.contributions.commands}
    used = {item.command for items in manifest.contributions.menus.values() for item in items}
    assert used <= commands


def segmented(segment_of, file, **options):
    viewer, dock, hands = segment_of()
    viewer.open(file, plugin="napari")
    hands.until(lambda: dock.image is not None)
    dock.view.pixel_size._spin.setValue(0.62)
    dock.view.heads.set_value("tiny:made")
    dock.view.heads.value_changed.emit()
    dock.view.options.set_value(SegmentOptions(**options))
    return viewer, dock, hands


def pressed(dock, hands) -> None:
    dock.view.run_button.click()
    hands.until(lambda: dock.runner.idle and not dock.segmenting.running, 120_000)


def clipboard() -> str:
    from qtpy.QtGui import QGuiApplication

    return QGuiApplication.clipboard().text()


def ran(code: str, **names) -> dict:
    scope: dict = dict(names)
    exec(compile(code, "copied", "exec"), scope)
    return scope


def test_the_copied_code_of_segmenting_gives_the_same(
    segment_of, file, loaded, tmp_path, monkeypatch
):
    from napari_pathsam.cli import main

    options = {"threshold": 0.4, "smallest_px": 40, "fill_holes_px": 20, "instances": True,
               "surest": 0.45, "views": 2}  # fmt: skip
    viewer, dock, hands = segmented(segment_of, file, **options)
    dock.view.extent.set_value("whole")
    pressed(dock, hands)
    shown, objects = viewer.layers["PathSAM made"].data, viewer.layers["PathSAM made objects"].data
    dock.view.copy_button.copy_python()
    scope = ran(clipboard())
    np.testing.assert_array_equal(scope["class_map"], shown)
    np.testing.assert_array_equal(scope["objects"], objects)

    dock.view.copy_button.copy_command()
    words = shlex.split(clipboard())
    assert words[0] == "pathsam"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["napari_pathsam.cli.segment"], "load", lambda *_: loaded)
    main_quietly(main, words[1:])
    np.testing.assert_array_equal(read_labels(tmp_path / "a field-classes.tif"), shown)

    viewer.scene.camera.zoom *= 3
    hands.settle(5)
    dock.view.extent.set_value("view")
    viewer.layers.remove("PathSAM made")
    pressed(dock, hands)
    dock.view.copy_button.copy_python()
    scope = ran(clipboard())
    part = viewer.layers["PathSAM made"].data[scope["region"].slices]
    np.testing.assert_array_equal(scope["class_map"], part)


def main_quietly(main, words) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert not left.value.code


def test_code_for_an_image_without_a_file_runs_in_the_console(segment_of, field, loaded):
    channels = np.stack([255 - field.image[:200, :200, 0], field.image[:200, :200, 2]])
    viewer, dock, hands = segment_of(
        channels, channel_axis=0, colormap=["magenta", "green"], name=["a", "b"]
    )
    dock.view.heads.set_value("tiny:made")
    dock.view.heads.value_changed.emit()
    pressed(dock, hands)
    dock.view.copy_button.copy_python()
    scope = ran(clipboard(), viewer=viewer)
    at = scope["region"].slices
    np.testing.assert_array_equal(scope["class_map"], viewer.layers["PathSAM made"].data[at])
    dock.view.copy_button.copy_command()
    assert "Save it first" in dock.view.status.text()


def test_the_copied_code_of_an_annotation_gives_the_same(
    dock_of, file, loaded, tmp_path, monkeypatch
):
    from napari_pathsam.cli import main

    viewer, dock, hands = dock_of(loader=lambda name, device: loaded.base)
    viewer.open(file, plugin="napari")
    hands.until(lambda: dock.session.image is not None)
    dock.view.copy_button.copy_python()
    assert "nothing to copy" in dock.view.status.text()
    for yx, modifiers in (((60, 70), ()), ((90, 100), ()), ((150, 220), ("Shift",))):
        n = len(dock.workspace.prompts.points_yx)
        hands.click(yx, modifiers=modifiers)
        hands.until(lambda n=n: len(dock.workspace.prompts.points_yx) == n + 1)
        hands.until(lambda: dock.runner.idle, 60_000)
    dock.workspace.accept()
    hands.settle(3)
    assert len(dock.workspace.objects) == 1
    accepted = dock.workspace.instances == 1
    dock.view.copy_button.copy_python()
    scope = ran(clipboard())
    assert len(scope["steps"]) == 3
    at = scope["field"].region.slices
    np.testing.assert_array_equal(scope["mask"], accepted[at])
    dock.view.copy_button.copy_command()
    words = shlex.split(clipboard())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys.modules["napari_pathsam.cli.prompt"], "load_promptable", lambda *_: loaded.base
    )
    main_quietly(main, words[1:])
    np.testing.assert_array_equal(read_labels(tmp_path / "a field-object.png") > 0, accepted)
    hands.screenshot("37-annotate-copy")
