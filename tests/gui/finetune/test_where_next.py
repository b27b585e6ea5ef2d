"""“Where next?” over a whole slide: it streams, it can be stopped, and it says how far it came."""

from __future__ import annotations

import time

import numpy as np
import pytest

from .conftest import MICRONS  # noqa: TID252

pytestmark = [pytest.mark.gui]
SHAPE = (18_432, 20_480)
PIECES = ((0, 0), (12_288, 16_384))
SIDE = 4096


@pytest.fixture
def slide_levels(field):
    """Two pieces of tissue on glass, of 0.25 µm; levels by fours, made as they are read."""
    import dask.array as da

    pattern = np.tile(field.image, (2, 2, 1))

    def level(step):
        part = pattern[::step, ::step]

        def block(block_info=None):
            (top, bottom), (left, right), _ = block_info[None]["array-location"]
            rows, columns = np.arange(top, bottom) * step, np.arange(left, right) * step
            inside = sum(
                (abs(rows - y - SIDE / 2) < SIDE / 2)[:, None]
                & (abs(columns - x - SIDE / 2) < SIDE / 2)
                for y, x in PIECES
            )
            at = np.ix_(rows // step % len(part), columns // step % part.shape[1])
            return np.where(inside[..., None], part[at], np.uint8(243))

        shape = tuple(-(-n // step) for n in SHAPE)
        chunks = (*(tuple(min(1024, n - i) for i in range(0, n, 1024)) for n in shape), (3,))
        return da.map_blocks(block, chunks=chunks, dtype=np.uint8)

    return [level(step) for step in (1, 4, 16)]


@pytest.fixture
def taught(finetune_of, slide_levels):
    """A lesson on the slide, with a version that may be asked."""
    viewer, dock, hands = lesson = finetune_of(
        slide_levels, multiscale=True, **(MICRONS | {"scale": (0.25, 0.25), "name": "slide"})
    )
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 120, 120), 6
    hands.settle(5)
    lesson.strokes()
    lesson.quick(1)
    lesson.train()
    assert not dock.view.error_bar.text()
    return lesson


def test_the_whole_slide_is_looked_through_until_one_stops(taught):
    viewer, dock, hands = lesson = taught
    where = dock.view.where
    dock.view.sections["where"].open()
    where.extent.setCurrentText("in the whole image")
    seen, turns = [], []
    dock.look.seen.connect(seen.append)
    shown = dock.answers._on_seen

    def timed(one):
        began = time.thread_time()
        shown(one)
        turns.append(time.thread_time() - began)

    dock.look.seen.disconnect(shown)
    dock.look.seen.connect(timed)
    lesson.press(where.find_button)
    assert where.find_button.text() == "Stop"
    lesson.until(lambda: len(seen) >= 4)
    assert "of the tissue · " in where.bar.text()
    assert where.bar.text().endswith(" left")
    assert where.places.value()
    hands.key("J")  # one goes and paints while it goes on
    assert "PathSAM where next" in viewer.layers
    here = where.places.value()[where.places._list.currentRow()]
    zoomed = float(viewer.scene.camera.zoom)
    dock.view.show_widget(where.places)
    hands.screenshot("52-where-next-going-on")
    more = len(seen) + 1
    lesson.until(lambda: len(seen) >= more)
    if here.region in [p.region for p in where.places.value()]:
        assert where.places.value()[where.places._list.currentRow()].region == here.region
    lesson.press(where.find_button)
    assert where.find_button.text() == "Find"
    assert not where.bar.isVisible()
    last = seen[-1]
    assert last.done < last.total
    assert f"{100 * last.share:.0f} % of the tissue looked through: " in where._said.text()
    lesson.until(lambda: dock.runner.idle)
    assert seen[-1] is last  # nothing goes on behind it
    values = viewer.layers["PathSAM uncertainty"].data
    assert 0 < np.isfinite(values).mean() < 0.5
    pieces = {
        (y, x) for s in seen for y, x in PIECES
        if abs(s.region.y - y) < SIDE and abs(s.region.x - x) < SIDE
    }  # fmt: skip
    assert pieces == set(PIECES)  # the far one, too, though it was stopped early
    assert max(turns) < 1, turns  # the aim is 0.25
    assert zoomed == viewer.scene.camera.zoom
    viewer.fit_to_view()
    dock.view.show_widget(where.places)
    hands.screenshot("53-where-next-stopped")


def test_another_image_ends_it(taught, made_up):
    viewer, dock, hands = lesson = taught
    dock.view.where.extent.setCurrentText("in the whole image")
    seen = []
    dock.look.seen.connect(seen.append)
    dock.view.where.find_button.click()
    lesson.until(lambda: len(seen) >= 2)
    dock.view.where.find_button.click()
    assert {"PathSAM uncertainty", "PathSAM where next"} <= {x.name for x in viewer.layers}
    dock.view.where.find_button.click()  # what was found stays until there is more
    n = len(seen)
    lesson.until(lambda: len(seen) > n)
    other = viewer.add_image(made_up(), rgb=True, **(MICRONS | {"name": "other"}))
    dock.open_image(other)
    assert dock.view.where.find_button.text() == "Find"
    lesson.until(lambda: dock.runner.idle)
    assert len(seen) < seen[0].total
    assert not {"PathSAM uncertainty", "PathSAM where next"} & {x.name for x in viewer.layers}
    hands.screenshot("54-where-next-another-image")
    dock.open_image(viewer.layers["slide"])
    dock.view.where.find_button.click()
    n = len(seen)
    lesson.until(lambda: len(seen) > n)
    dock.train()  # the version that is asked is not the newest for long
    assert dock.view.where.find_button.text() == "Find"
    lesson.done()
    assert len(seen) < 2 * seen[0].total
