"""Labels of a slide of 60,000 pixels: painted, accepted, erased and undone as on a small image."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from napari_pathsam._napari.export import labels_of, write
from napari_pathsam.core.geometry import Region
from napari_pathsam.io.annotations import load_annotations
from napari_pathsam.io.label_store import LabelStore

from .conftest import SCREENSHOTS, tissue  # noqa: TID252

pytestmark = pytest.mark.gui

SIDE, TILE = 60_000, 1024
A, B = (40 * TILE, 30 * TILE), (8 * TILE, 50 * TILE)
"""Two fields far from each other."""


def slide_levels() -> list:
    """A slide of the same field again and again, on tissue that fills its middle."""
    import dask.array as da
    from PIL import Image

    field = Image.fromarray(tissue(side=TILE))
    levels = []
    for f in (1, 4, 16, 64):
        tile = np.asarray(field.resize((TILE // f, TILE // f)))
        side = SIDE // f
        chunk = len(tile) * max(1, 512 // len(tile))
        block = np.tile(tile, (chunk // len(tile), chunk // len(tile), 1))

        def made(block=block, chunk=chunk, *, block_info):
            (y0, y1), (x0, x1), _ = block_info[None]["array-location"]
            return block[: y1 - y0, : x1 - x0]

        chunks = tuple(
            tuple(min(chunk, side - at) for at in range(0, side, chunk)) for _ in range(2)
        )
        levels.append(da.map_blocks(made, chunks=(*chunks, (3,)), dtype=np.uint8, meta=np.empty(0)))
    return levels


@pytest.fixture
def slide_dock(dock_of):
    """``(viewer, dock, hands, go)``; ``go(yx, zoom)`` moves the view and lets it rest."""
    viewer, dock, hands = dock_of(slide_levels(), rgb=True, multiscale=True)

    def go(yx, zoom: float = 1.0) -> None:
        camera = viewer.scene.camera
        camera.center, camera.zoom = (0, *(np.asarray(yx) + 256)), zoom
        hands.settle(10)
        window = dock.session.label_sync.window
        hands.until(
            lambda: not window._timer.isActive() and not dock.session._view_timer.isActive()
        )

    return viewer, dock, hands, go


def paint(dock, hands, kind: str, path, *, mode: str = "paint", label: int = 1) -> float:
    """A stroke with napari's brush; seconds the GUI thread works until it is shown."""
    layer = dock.session.labels.layers[kind]
    dock.viewer.layers.selection.active = layer
    layer.mode, layer.selected_label, layer.brush_size = mode, label, 20
    hands.settle(3)
    start = time.thread_time()
    hands.drag(path)
    hands.settle(3)
    return time.thread_time() - start


@pytest.mark.hidden
def test_saved_labels_come_back_into_the_layers_that_are_there(dock_of):
    """napari takes seconds to take layers away and make others, where there are many objects."""
    slide = {"rgb": True, "multiscale": True}
    _viewer, dock, hands = dock_of(slide_levels(), **slide)
    disc = np.hypot(*np.mgrid[-80:80, -80:80]) < 60
    dock.workspace.import_labels(disc * 7, disc * 1, region=Region(*A, 160, 160))
    dock.shut_down()

    viewer, dock, hands = dock_of(slide_levels(), **slide)
    sync = dock.session.label_sync
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, *(np.asarray(A) + 80)), 1.0
    hands.until(lambda: sync.window.window is not None)
    before = list(viewer.layers)
    dock.workspace.restore()
    hands.until(lambda: dock.workspace.restorable is None, 60_000)
    assert [id(layer) for layer in viewer.layers] == [id(layer) for layer in before]
    hands.until(lambda: sync.window.window is not None)
    shown = sync.shown.layers["instances"]
    corner = np.subtract(A, sync.shown.origin_yx)
    np.testing.assert_array_equal(shown.data[Region(*corner, 160, 160).slices] == 7, disc)
    red, green, blue, _ = np.round(np.multiply(shown.get_color(7), 255)).astype(int)
    assert f"#{red:02x}{green:02x}{blue:02x}" == dock.workspace.classes.classes[0].color
    drawn = shown._slice.image
    np.testing.assert_array_equal(drawn.view, shown._raw_to_displayed(drawn.raw))
    assert list(shown.features["index"]) == [0, 7]
    for kind, layer in sync.window.overview.items():
        assert layer.data[-1].any(), kind
        assert not layer.visible


def test_labels_of_a_slide(slide_dock, tmp_path):
    viewer, dock, hands, go = slide_dock
    workspace, sync = dock.workspace, dock.session.label_sync
    assert all(layer.visible for layer in sync.window.overview.values())
    hands.screenshot("slide-1-whole")

    go(A)
    assert not any(layer.visible for layer in sync.window.overview.values())
    hands.click(np.add(A, (130, 180)))
    hands.until(lambda: workspace.candidate is not None, 60_000)
    hands.key("N")
    hands.until(lambda: len(workspace.objects) == 1, 60_000)
    box = workspace.objects[1].box
    assert np.abs(np.subtract((box.y, box.x), A) - (65, 65)).max() < 25
    paint(dock, hands, "classes", [np.add(A, (300, 40 + 20 * n)) for n in range(12)])
    painted = workspace.class_map[A[0] + 300, A[1] + 40 : A[1] + 240]
    assert painted.all()
    hands.screenshot("slide-2-field-a")
    layer = dock.session.labels.layers["classes"]
    assert layer.data[tuple(np.add(A, (300, 100)) - sync.shown.origin_yx)] == 1

    # Elsewhere: what was done before is in the workspace, in no layer, and can be undone.
    go(B, 0.7)
    assert max(layer.data.shape) < 6000
    hands.until(lambda: sync.window.window is not None)
    dock.session.set_tool("point")
    hands.click(np.add(B, (360, 200)))
    hands.until(lambda: workspace.candidate is not None, 60_000)
    hands.key("N")
    hands.until(lambda: len(workspace.objects) == 2, 60_000)
    before = workspace.class_area_px(1)
    paint(dock, hands, "instances", [np.add(B, (360, 100 + 10 * n)) for n in range(9)],
          mode="erase", label=2)  # fmt: skip
    assert workspace.class_area_px(1) < before
    hands.screenshot("slide-3-field-b-erased")

    offered = [action.text() for action in dock.view.export_button.menu().actions()]
    assert any("OME-Zarr" in text for text in offered)
    labels = labels_of(workspace)
    found = load_annotations(write("geojson", tmp_path / "a.geojson", labels))
    assert len(found.items) == 3  # two glands and a painted area
    path = write("ngff", tmp_path / "a.zarr", labels)
    assert LabelStore.open(path).read(Region(A[0] + 300, A[1] + 40, 1, 200)).all()
    assert LabelStore.open(path, "objects").classes == workspace.classes
    store_level = LabelStore.open(path).pyramid()[4].compute()
    assert np.array_equal(store_level, workspace.class_map.levels[4])

    go((SIDE // 2, SIDE // 2), 0.012)
    assert all(layer.visible for layer in sync.window.overview.values())
    hands.screenshot("slide-4-overview")
    level = sync.window.overview["classes"].data[-1]
    assert level.any()
    dock.session.set_tool("point")
    for _ in range(2):
        hands.key("Ctrl+Z")
    hands.until(lambda: len(workspace.objects) == 1, 60_000)
    for _ in range(2):
        hands.key("Ctrl+Z")
    hands.until(lambda: not workspace.has_labels or len(workspace.objects) == 1)
    for _ in range(10):
        if workspace.can_undo:
            hands.key("Ctrl+Z")
    assert not workspace.has_labels
    assert not level.any()
    for _ in range(12):
        hands.key("Ctrl+Shift+Z")
    hands.until(lambda: len(workspace.objects) == 2, 60_000)
    go(A)
    assert layer.data[tuple(np.add(A, (300, 100)) - sync.shown.origin_yx)] == 1
    dock.session.close()
    assert [x.name for x in viewer.layers if "PathSAM" in x.name] == [
        "PathSAM classes (overview)", "PathSAM objects (overview)",
    ]  # fmt: skip


def test_nothing_drawn_is_lost_when_the_view_moves(slide_dock):
    _, dock, hands, go = slide_dock
    workspace, window = dock.workspace, dock.session.label_sync.window
    go(A)
    layer = dock.session.labels.layers["classes"]
    dock.viewer.layers.selection.active = layer
    layer.mode, layer.brush_size = "paint", 20
    events = hands.canvas._scene_canvas.events
    points = [hands.at(np.add(A, (300, x))).round() for x in (40, 140, 240)]
    press = last = events.mouse_press(pos=points[0], button=1, modifiers=[])
    for n, pos in enumerate(points[1:]):
        time.sleep(0.01)
        last = events.mouse_move(
            pos=pos, button=1, modifiers=[], press_event=press, last_event=last
        )
        if n == 0:
            camera = dock.viewer.scene.camera
            camera.center = (0, camera.center[1], camera.center[2] + 5000)
            hands.settle(5)
            assert window.window is not None  # a stroke is under way: nothing moves
            camera.center = (0, camera.center[1], camera.center[2] - 5000)
            hands.settle(2)
    events.mouse_release(pos=points[-1], button=1, modifiers=[], press_event=press, last_event=last)
    hands.settle(5)
    assert workspace.class_map[A[0] + 300, A[1] + 40 : A[1] + 240].all()

    # The brush is set down before the view has rested, and where too much is in view.
    camera = dock.viewer.scene.camera
    camera.center = (0, *np.add(B, 256))
    hands.settle(3)
    paint(dock, hands, "classes", [np.add(B, (300, x)) for x in (40, 140, 240)])
    assert workspace.class_map[B[0] + 300, B[1] + 40 : B[1] + 240].all()
    heard = []
    workspace.failed.connect(heard.append)
    camera.zoom = 0.02
    hands.settle(10)
    n = len(workspace._history.done)
    paint(dock, hands, "classes", [np.add(B, (300, x)) for x in (40, 140, 240)])
    assert "Zoom in" in heard[-1]
    assert len(workspace._history.done) == n


@pytest.mark.slow
def test_a_stroke_on_a_slide_is_as_quick_as_on_a_small_image(slide_dock, dock_of):
    """What the GUI thread works for a stroke, frames included; the same hands on both images."""
    _, dock, hands, go = slide_dock
    rng = np.random.default_rng(0)
    for n, (y, x) in enumerate(rng.integers(0, SIDE - 600, (40, 2)), start=1):
        square = tuple(np.mgrid[y : y + 60, x : x + 60].reshape(2, -1))
        dock.workspace.record_stroke("instances", square, 0, n)
    go(A)
    small, small_dock, small_hands = dock_of(tissue(side=TILE).copy(), rgb=True)
    small.scene.camera.center, small.scene.camera.zoom = (0, 256, 256), 1.0
    small_hands.settle(10)
    table = {}
    for kind in ("classes", "instances"):
        for mode in ("paint", "erase"):
            took: tuple[list[float], list[float]] = ([], [])
            for y in range(20, 480, 80):
                for where, (d, h, base) in enumerate(
                    ((dock, hands, A), (small_dock, small_hands, (0, 0)))
                ):
                    path = [np.add(base, (y, 60 + 6 * n)) for n in range(2)]
                    took[where].append(1000 * paint(d, h, kind, path, mode=mode))
            table[f"{mode} {kind}"] = [float(np.median(t[1:])) for t in took]
    if SCREENSHOTS:
        text = json.dumps({"GUI thread ms, slide and small image": table}, indent=1)
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        (Path(SCREENSHOTS) / "slide-strokes.json").write_text(text)
    slide, plain = np.transpose(list(table.values()))
    assert (slide < 2.5 * plain + 10).all(), table
