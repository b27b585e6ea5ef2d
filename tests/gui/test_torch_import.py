"""Torch in a process in which a viewer already draws."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.gui

FIRST_THE_DRIVER = """
import threading
import napari
import napari_pathsam as ps
from qtpy.QtWidgets import QApplication

viewer = napari.Viewer()
sample = ps.load_sample("colon_normal")
viewer.add_image(sample.image)
for _ in range(5):
    QApplication.processEvents()
viewer.screenshot(canvas_only=False, flash=False)  # the driver is loaded now

from napari_pathsam._napari.torch_import import load_torch

def work():
    load_torch()
    model = ps.load_model("pathsam-nano", device="cpu")
    embedding = model.encode(sample.image)
    click = ps.Prompts(points_yx=((121, 41),), positive=(True,))
    print("pixels", model.decode_prompts(embedding, click).mask.sum())

worker = threading.Thread(target=work)
worker.start()
worker.join()
viewer.close()
"""


FIRST_TORCH = FIRST_THE_DRIVER.replace(
    "import threading\n",
    "import threading\nfrom napari_pathsam._napari.torch_import import load_torch\nload_torch()\n",
)


@pytest.mark.parametrize("script", [FIRST_THE_DRIVER, FIRST_TORCH])
def test_the_first_model_is_loaded_beside_a_drawing_viewer(script: str) -> None:
    """Software OpenGL and triton each bring an LLVM: once this ended the process."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split("pixels")[1]) > 100
