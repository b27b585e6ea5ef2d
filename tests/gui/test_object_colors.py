"""Objects have their class's colour, as napari's own colormap would give it, however many."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_pathsam._napari.label_colors import LabelColors, LabelLook
from napari_pathsam._napari.object_colors import LARGEST_ID, ObjectColormap, object_colormap
from napari_pathsam._napari.segment_layers import warm_up
from napari_pathsam.core.classes import ClassTable

pytestmark = pytest.mark.gui

COLORS = {1: "#ff0000", 3: "#0000ff", 7: "transparent"}
WHITE = "#ffffff"


def own_of_napari(class_of: dict[int, int]) -> DirectLabelColormap:
    colors = {i: COLORS.get(c, WHITE) for i, c in class_of.items()}
    return DirectLabelColormap(color_dict={None: WHITE, 0: "transparent", **colors})


def seen(colormap: DirectLabelColormap, ids: np.ndarray) -> np.ndarray:
    """What is drawn: numbers in a texture, and the colours they stand for."""
    table = colormap._values_mapping_to_minimum_values_set()[1]
    texture = colormap._data_to_texture(ids)
    return np.array([table[i] for i in texture.ravel().tolist()]).reshape(*ids.shape, 4)


@pytest.fixture
def class_of(rng: np.random.Generator) -> dict[int, int]:
    ids = rng.permutation(3000)[:500] + 1
    return dict(zip(ids.tolist(), rng.choice([1, 3, 7, 9], 500).tolist(), strict=True))


@pytest.mark.parametrize("selected", [False, True])
def test_every_id_is_seen_as_napari_would_show_it(
    class_of: dict[int, int], rng: np.random.Generator, selected: bool
) -> None:
    ours, theirs = object_colormap(COLORS, class_of, WHITE), own_of_napari(class_of)
    assert isinstance(ours, ObjectColormap)
    ids = rng.integers(0, 4000, (60, 50)).astype(np.int32)
    ids[0, :3] = (0, 2**31 - 1, next(iter(class_of)))
    for colormap in (ours, theirs):
        colormap.use_selection, colormap.selection = selected, int(ids[0, 2])
    np.testing.assert_allclose(seen(ours, ids), seen(theirs, ids))
    np.testing.assert_allclose(ours.map(ids), theirs.map(ids))
    for one in ids[0, :3].tolist():
        np.testing.assert_allclose(ours.map(one), theirs.map(one))
    small = ids.astype(np.uint16)
    np.testing.assert_allclose(ours.map(small), theirs.map(small))


def test_objects_that_come_and_change_are_known_at_once(class_of: dict[int, int]) -> None:
    layer = Labels(np.arange(4000, dtype=np.int32).reshape(50, 80))
    colors = LabelColors(grows=True)
    colors.show(layer, COLORS, class_of)
    made = layer.colormap
    changed = class_of | {next(iter(class_of)): 3, 3999: 1}
    colors.show(layer, COLORS, changed)
    assert layer.colormap is made
    np.testing.assert_allclose(seen(made, layer.data), seen(own_of_napari(changed), layer.data))
    colors.show(layer, COLORS | {1: "#00ff00"}, changed)
    np.testing.assert_allclose(layer.get_color(3999), (0, 1, 0, 1))


def test_ids_that_are_too_large_to_look_up_have_their_colours(class_of: dict[int, int]) -> None:
    layer = Labels(np.array([[0, 5, LARGEST_ID + 1]], np.int32))
    colors = LabelColors(grows=True)
    for known in ({5: 1, LARGEST_ID + 1: 3}, {5: 3, LARGEST_ID + 1: 1}, {5: 3}):
        colors.show(layer, COLORS, known)
        for i, class_id in known.items():
            wanted = {1: (1, 0, 0, 1), 3: (0, 0, 1, 1)}[class_id]
            np.testing.assert_allclose(layer.get_color(i), wanted)


def test_tens_of_thousands_of_objects_keep_nobody_waiting() -> None:
    """Colours and names: against what napari takes to hold a colour for each, here and now."""
    classes = ClassTable.of("gland", "stroma", "nucleus")
    class_of = {i: classes.classes[i % 3].id for i in range(1, 57_601)}
    labels = np.arange(57_600, dtype=np.int32).reshape(240, 240)
    warm_up()
    theirs = Labels(labels)
    slow = took(lambda: setattr(theirs, "colormap", own_of_napari(class_of)))
    look, layers = LabelLook(), {"instances": Labels(labels)}
    assert took(lambda: look.show(layers, classes, class_of)) < slow / 2
    one_more = class_of | {60_000: class_of[1]}
    assert took(lambda: look.show(layers, classes, one_more)) < slow / 2


def took(work: Callable[[], object]) -> float:
    """Seconds of this thread."""
    start = time.thread_time()
    work()
    return time.thread_time() - start
