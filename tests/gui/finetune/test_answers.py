"""What a version can be asked: where next, why, and how it was made."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_pathsam._napari.finetune_places import Place
from napari_pathsam.core.geometry import Region
from napari_pathsam.training.explain import Explanation, Pattern
from napari_pathsam.training.finetune_file import read_run
from napari_pathsam.workspace.teaching_look import Explained

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


def test_where_next_worst_and_explain(finetune_of, made_up):
    viewer, dock, hands = lesson = finetune_of(made_up(420))
    lesson.strokes()
    lesson.quick()
    for ask in (dock.view.where.find_button, dock.view.explain.explain_button):
        ask.click()
        assert "no version yet" in dock.view.error_bar.text()
        dock.view.error_bar.say("")
    dock.train()
    lesson.done()
    dock.view.sections["where"].open()
    dock.view.where.find_button.click()
    lesson.until(lambda: bool(dock.view.where.places.value()))
    lesson.until(lambda: dock.runner.idle)
    assert "PathSAM uncertainty" in viewer.layers
    place = dock.view.where.places.value()[0]
    zoom = viewer.scene.camera.zoom
    hands.key("J")
    r = place.region
    centre = np.array([r.y + (r.height - 1) / 2, r.x + (r.width - 1) / 2]) * 0.5
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], centre, atol=1e-6)
    assert viewer.scene.camera.zoom >= zoom
    hands.key("K")
    hands.screenshot("47-finetune-where")
    worst = dock.view.worst.value()  # two epochs of the head alone are wrong about something
    assert re.fullmatch(r"\S.* ·  \d+ % read as .* ·  196 px", worst[0].text)
    assert worst[0].region.shape_yx == (14, 14)
    dock.view.sections["worst"].open()
    dock.view.worst.step(1)
    hands.settle(2)
    r = worst[0].region
    np.testing.assert_allclose(
        viewer.scene.camera.center[-2:], np.array([r.y + 6.5, r.x + 6.5]) * 0.5, atol=1e-6
    )
    dock.answers.go(Place("here", Region(0, 0, 20, 20), dock.source.key))
    viewer.fit_to_view()

    dock.view.sections["explain"].open()
    dock.view.explain.explain_button.click()
    lesson.until(lambda: bool(dock.view.explain.plots))
    assert "no proof" in dock.view.explain.text.text()
    dock.answers.show_map(0)
    acts = viewer.layers["PathSAM acts here"]
    low, high = acts.contrast_limits  # so that red speaks for the class, and blue against it
    assert low == -high
    assert np.abs(acts.data).max() <= high
    assert not viewer.layers["PathSAM uncertainty"].visible  # one map at a time
    dock.view.where.map_box.click()
    assert viewer.layers["PathSAM uncertainty"].visible
    assert "PathSAM acts here" not in viewer.layers
    dock.answers.show_map(0)
    dock.view.show_widget(dock.view.copy_button)
    hands.screenshot("48-finetune-explain")
    dock.shut_down()
    assert [x.name for x in viewer.layers if x.name.startswith("PathSAM")] == [
        "PathSAM training labels"
    ]


def test_what_is_explained_is_what_one_looks_at(finetune_of, field, monkeypatch):
    viewer, dock, hands = finetune_of(np.tile(field.image, (3, 3, 1)))  # 1536 × 1536 pixels
    asked = []
    monkeypatch.setattr(dock, "current_number", lambda: 1)
    monkeypatch.setattr(dock.look, "explain", lambda *given: asked.append(given))
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 700, 700), 6
    hands.settle(2)
    seen = dock.field_in_view(exactly=True)
    dock.view.explain.explain_button.click()
    number, class_id, explained = asked[0]
    assert (number, class_id) == (1, 1)
    assert explained.region == seen.region != Region.of(dock.source.shape_yx)

    one = np.zeros(4, np.float32)
    pattern = Pattern(0, 0.5, np.zeros((8, 8), np.float32), 0, 0.5, one, one, 0.0, 0.0)
    found = Explained(
        1, explained, Region(512, 512, 1024, 1024), Explanation("gland", (pattern,), 16)
    )
    dock.answers._on_explained(found)
    assert dock.view.explain.where() == ""  # it is of all that is in view
    assert "50 %" in dock.view.explain.text.text()
    viewer.fit_to_view()
    hands.settle(2)
    dock.answers.show_map(0)
    assert "lower right part of what is in view, 1024 × 1024" in dock.view.explain.where()
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 60, 60), 10
    hands.settle(2)
    dock.answers.show_map(0)
    assert "not in view" in dock.view.explain.where()


def same(one: Path, other: Path) -> bool:
    """Whether two model files hold the same weights to the last bit."""
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_copied_code_makes_the_same_model(finetune_of, made_up, tmp_path, monkeypatch):
    from qtpy.QtGui import QGuiApplication

    from napari_pathsam.cli import main

    _, dock, _ = lesson = finetune_of(made_up())
    dock.view.copy_button.copy_python()
    assert "nothing to copy yet" in dock.view.status.text()
    lesson.strokes()
    lesson.quick(3)
    lesson.train()
    monkeypatch.chdir(tmp_path)
    dock.view.copy_button.copy_python()
    exec(compile(QGuiApplication.clipboard().text(), "copied", "exec"), {})  # what a person does
    mine = dock.teaching.model_path(1)
    assert same(tmp_path / "my classes.safetensors", mine)
    dock.view.copy_button.copy_command()
    program, *words = shlex.split(QGuiApplication.clipboard().text())
    assert program == "pathsam"
    words[words.index("--out") + 1] = str(tmp_path / "again.safetensors")
    with pytest.raises(SystemExit) as left:
        main(words)
    assert not left.value.code
    assert same(tmp_path / "again.safetensors", mine)
    # And the score that is shown is what the command says of the run.
    run = str(dock.teaching.run_path(1))
    with pytest.raises(SystemExit):
        main(["evaluate", "--run", run, "--json", str(tmp_path / "scores.json")])
    assert json.loads((tmp_path / "scores.json").read_text()) == dock.teaching.lesson[1].scores


def test_strokes_on_a_slide_cost_the_tiles_they_touch(finetune_of, field, encoded):
    image = np.tile(field.image, (2, 4, 1))  # 1024 × 2048 pixels of 0.2 µm
    image[:, 1024:] = image[::-1, 1024:].copy()  # what was seen once is not encoded twice
    levels = [image, image[::2, ::2], image[::4, ::4]]
    viewer, dock, hands = lesson = finetune_of(
        levels, multiscale=True, scale=(0.2, 0.2), units=("um", "um"), name="slide"
    )
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 80, 80), 10
    hands.settle(5)
    layer = dock.brush.new_labels()
    for rows, class_id in (((200, 260), 1), ((20, 60), 2)):
        ys, xs = np.mgrid[slice(*rows), 200:260].reshape(2, -1)
        layer.data_setitem((ys, xs), class_id)
    lesson.quick(1)
    in_training: list[int] = []
    dock.run.told.connect(
        lambda told: in_training.extend(len(encoded) for r in told if r.phase == "training")
    )
    lesson.train()
    assert not dock.view.error_bar.text()
    run, _ = read_run(dock.teaching.run_path(1))
    seen = []
    dock.look.seen.connect(seen.append)
    dock.view.where.extent.setCurrentText("in the whole image")
    dock.view.where.find_button.click()
    lesson.until(lambda: seen and seen[-1].done == seen[-1].total)
    lesson.until(lambda: "PathSAM uncertainty" in viewer.layers)
    places = dock.view.where.places.value()
    assert max(p.region.x for p in places) > 1024  # beyond what is in view
    magnifications, total = 3, seen[-1].total
    assert in_training[0] == magnifications * run.n_tiles == magnifications
    assert len(encoded) == magnifications * total > in_training[0]
    assert all("of all doubt" in p.text for p in places)
    hands.screenshot("51-finetune-slide")
