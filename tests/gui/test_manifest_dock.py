"""The dock as napari itself opens it: from the manifest, with the viewer behind a proxy."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.annotate import AnnotateDock

pytestmark = pytest.mark.gui


def test_the_plugins_menu_opens_the_dock(make_napari_viewer, qtbot, rng):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), rgb=True)
    frame, dock = viewer.window.add_plugin_dock_widget("napari-pathsam", "PathSAM: Annotate")
    assert isinstance(dock, AnnotateDock)
    assert dock.viewer is viewer
    assert dock.session.image is not None
    # The catalogue is read, and torch imported, without a click and without a wait.
    qtbot.waitUntil(lambda: "sam2.1-tiny" in dock.models.chooser._choices, timeout=60_000)
    qtbot.waitUntil(lambda: dock.runner.idle, timeout=60_000)
    assert not dock.view.error_bar.text()
    frame.destroyOnClose()
    qtbot.waitUntil(lambda: not dock.runner._thread.is_alive(), timeout=30_000)
    assert len(viewer.layers) == 1
