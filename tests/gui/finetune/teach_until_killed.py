"""A viewer in a process of its own that teaches, and waits in the middle of it to be killed.

    python teach_until_killed.py IMAGE.npy STORE STROKES.npy

Writes the strokes that are finished to STROKES.npy, starts a training, begins another stroke with
the mouse while it trains, says so in a line, and goes on until somebody kills it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

SPOTS = ((20, 20), (20, 110), (110, 20))


def main(image_path: str, store: str, strokes: str) -> None:
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_pathsam._napari.finetune import FineTuneDock
    from napari_pathsam._napari.keys import Keys
    from napari_pathsam.workspace.teaching_choices import Advanced
    from napari_pathsam.workspace.teaching_store import LessonStore

    deadline = time.monotonic() + 300  # also for a parent that did not come to kill

    def until(condition) -> None:
        while not condition():
            if time.monotonic() > deadline:
                sys.exit(f"waited too long; the dock says {dock.view.error_bar.text()!r}")
            QApplication.processEvents()
            time.sleep(0.002)

    viewer = napari.Viewer()
    viewer.add_image(np.load(image_path), rgb=True, scale=(0.5, 0.5), units=("um", "um"))
    dock = FineTuneDock(viewer, store=LessonStore(Path(store)), keys=Keys(Path(store) / "keys"))
    viewer.window.add_dock_widget(dock, area="right")
    dock.shown._timer.timeout.disconnect()  # no estimates
    layer = dock.brush.new_labels()
    labels = np.zeros(layer.data.shape, np.uint8)
    for y, x in SPOTS:
        labels[y : y + 14, x : x + 14], labels[y + 22 : y + 36, x : x + 14] = 1, 2
    layer.data_setitem(np.nonzero(labels), labels[labels > 0])
    dock.teaching.choose(device="cpu", trained="head", advanced=Advanced(epochs=500))
    np.save(strokes, layer.data)
    dock.train()
    until(lambda: dock.run.number is not None)
    state = dock.teaching.folder.path / f"version-{dock.run.number}.state"
    until(state.is_file)  # an epoch is over
    events = viewer.window._qt_viewer.canvas._scene_canvas.events
    size = np.asarray(viewer.canvas.size)[::-1] / 2
    press = last = events.mouse_press(pos=size, button=1, modifiers=[])
    for n in range(1, 4):
        last = events.mouse_move(
            pos=size + 5 * n, button=1, modifiers=[], press_event=press, last_event=last
        )
    assert (layer.data != np.load(strokes)).any()
    sys.stdout.write("in the middle of a stroke\n")
    sys.stdout.flush()
    until(lambda: False)


if __name__ == "__main__":
    main(*sys.argv[1:])
