"""Torch in a process in which a viewer already draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from napari_pathsam._napari.torch_import import mesa_llvm_is_loaded

pytestmark = pytest.mark.gui

SCRIPT = """
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


def test_the_first_model_is_loaded_beside_a_drawing_viewer() -> None:
    """Software OpenGL and triton each bring an LLVM: once this ended the process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split("pixels")[1]) > 100


def test_mesa_is_recognised_by_what_is_mapped(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text("7f00 r-xp 00000000 /usr/lib/x86_64-linux-gnu/libLLVM-15.so.1\n")
    assert mesa_llvm_is_loaded(maps)
    maps.write_text("7f00 r-xp 00000000 /usr/lib/libGLX_nvidia.so.0\n")
    assert not mesa_llvm_is_loaded(maps)
    assert not mesa_llvm_is_loaded(tmp_path / "none")
