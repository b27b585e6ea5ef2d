"""Fields encoded before are found again; those beside the one in use are encoded in idle time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace import ArraySource, Workspace
from napari_pathsam.workspace.encoding import Keeping
from napari_pathsam.workspace.field_book import AT_MOST, FieldBook
from napari_pathsam.workspace.fields import Field, neighbours, next_beside, serves

from .conftest import Config, GrowModel, LateRunner  # noqa: TID252

ABOUT = ("image", "pathsam-nano", 0.5)


def field(y: int = 0, x: int = 0, side: int = 100) -> Field:
    return Field(Region(y, x, side, side), (side, side))


def test_a_book_outlives_the_program_and_two_write_in_it(tmp_path: Path) -> None:
    one, other = FieldBook(tmp_path / "fields"), FieldBook(tmp_path / "fields")
    assert one.fields(ABOUT) == other.fields(ABOUT) == []
    one.add(ABOUT, field(1))
    other.add(ABOUT, field(2))
    one.add(ABOUT, field(1))
    one.add(("image", "pathsam-nano", None), field(9))
    assert set(FieldBook(tmp_path / "fields").fields(ABOUT)) == {field(1), field(2)}
    for y in range(100, 100 + AT_MOST):
        one.add(ABOUT, field(y))
    found = FieldBook(tmp_path / "fields").fields(ABOUT)
    assert len(found) == AT_MOST
    assert found[0] == field(99 + AT_MOST)
    assert field(1) not in found
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("content", ["", "{", "[[1, 2]]", "[3]", '{"a": 1}', '[["a"]]'])
def test_a_damaged_book_is_an_empty_one(tmp_path: Path, content: str) -> None:
    FieldBook(tmp_path).add(ABOUT, field())
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    book = FieldBook(tmp_path)
    assert book.fields(ABOUT) == []
    book.add(ABOUT, field(5))
    assert FieldBook(tmp_path).fields(ABOUT) == [field(5)]


def test_a_folder_that_cannot_be_written_to_costs_the_note_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    book = FieldBook(tmp_path / "file" / "fields")
    book.add(ABOUT, field())
    assert book.fields(ABOUT) == [field()]


def test_neighbours_lie_round_a_field_inside_the_image() -> None:
    shape = (300, 1000)
    found = neighbours(field(100, 400), shape)
    assert [(f.region.y, f.region.x) for f in found] == [
        (100, 475),
        (100, 325),
        (175, 400),
        (25, 400),
    ]
    corner = neighbours(field(0, 890), shape)
    assert [(f.region.y, f.region.x) for f in corner] == [(0, 815), (75, 890)]
    assert neighbours(field(side=100), (100, 110)) == []
    rng = np.random.default_rng(0)
    for _ in range(100):
        y, x = int(rng.integers(0, 200)), int(rng.integers(0, 900))
        for one in neighbours(field(y, x), shape):
            assert one.region.intersection(Region.of(shape)) == one.region
            assert one.shape_yx == (100, 100)
    known = [field(100, 400)]
    while (one := next_beside(known[0], shape, known)) is not None:
        known.append(one)
    assert known[1:] == found
    # A click in the outer half of the field finds one that was made ahead.
    assert any(serves(one, known[0], (150, 495), shape) for one in known[1:])


@pytest.fixture
def slide() -> ArraySource:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    return ArraySource(image.repeat(20, 0).repeat(20, 1), name="slide")


def opened(slide: ArraySource, model: GrowModel, tmp_path: Path, keeping: Keeping, runner=None):
    workspace = Workspace(
        model_loader=lambda name, device: model,
        runner=runner,
        journal_dir=tmp_path / "journals",
        keeping=keeping,
    )
    workspace.open_image(slide)
    return workspace


def test_what_lies_beside_is_encoded_when_nothing_else_is_to_be_done(slide, tmp_path):
    model, runner, book = GrowModel(Config(field_px=128)), LateRunner(), FieldBook()
    workspace = opened(slide, model, tmp_path, Keeping(book=book), runner)
    workspace.set_view(Region(300, 300, 100, 100), 1.0)
    workspace.add_point(350, 350)
    runner.run()  # loads
    runner.run()  # encodes
    assert len(model.encoded) == 1
    assert len(runner.jobs) == 1  # decodes; nothing is in its way
    runner.run()
    assert workspace.candidate is not None
    workspace.look_ahead()
    (ahead,) = runner.jobs
    assert workspace.busy is None
    workspace.add_point(340, 340)
    assert ahead.cancelled
    workspace.look_ahead()
    assert len(runner.jobs) == 2  # what was cancelled, and the click
    runner.run_all()
    assert len(model.decoded) == 2
    workspace.accept()
    workspace.look_ahead()
    runner.run_all()
    assert len(model.encoded) == 5
    workspace.close_image()
    assert len({f.region for f in book.fields((slide.key, "pathsam-nano", None))}) == 5


def test_slow_models_do_not_look_ahead(slide, tmp_path, monkeypatch):
    clock = iter(np.arange(0.0, 1000.0, 10.0))
    monkeypatch.setattr("napari_pathsam.workspace.prompting.time.monotonic", lambda: next(clock))
    model = GrowModel(Config(field_px=128))
    workspace = opened(slide, model, tmp_path, Keeping())
    workspace.set_view(Region(300, 300, 100, 100), 1.0)
    workspace.add_point(350, 350)
    assert workspace.candidate is not None
    workspace.look_ahead()
    assert len(model.encoded) == 1
    workspace.close_image()


def test_a_field_of_another_session_is_taken_where_it_serves(slide, tmp_path):
    keeping = Keeping(book=FieldBook(tmp_path / "fields"))
    first = opened(slide, GrowModel(), tmp_path, keeping)
    first.set_view(Region(300, 300, 100, 100), 1.0)
    first.add_point(350, 350)
    region = first.field.region
    first.close_image()
    keeping = Keeping(book=FieldBook(tmp_path / "fields"))
    later = opened(slide, GrowModel(), tmp_path, keeping)
    later.set_view(Region(312, 291, 90, 95), 1.1)
    later.add_point(350, 350)
    assert later.field.region == region
    later.reject()
    later.set_view(Region(312, 291, 40, 40), 3.0)
    later.set_mpp(0.3)  # said to be another size: known by another name
    later.add_point(350, 350)
    assert later.field.region != region
    later.close_image()
