"""The dock “PathSAM: Browse” in a real viewer, with the mouse and with keys."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget

from napari_pathsam.core.classes import ClassTable

pytestmark = pytest.mark.gui

N = 5


@pytest.fixture
def folder(tmp_path, field):
    """Five fields with classes; two of them have labels that nobody would paint."""
    root = tmp_path / "set"
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for n in range(N):
        image = np.ascontiguousarray(field.image[20 * n : 20 * n + 160, :200])
        labels = np.zeros(image.shape[:2], np.uint8)
        labels[image[..., 1] < 150] = 1
        labels[(image[..., 0] > 225) & (labels == 0)] = 2
        if n > 2:
            labels[:, : 60 * (n - 2)] = 255
        Image.fromarray(image).save(root / "images" / f"field{n}.png")
        Image.fromarray(labels).save(root / "labels" / f"field{n}.png")
    (root / "classes.csv").write_text(ClassTable.of("gland", "stroma").to_csv())
    return root


@pytest.fixture
def browse_of(viewer_of, hands_of, tmp_path, tiny_pathsam, heads):
    from napari_pathsam._napari.browse import BrowseDock
    from napari_pathsam._napari.keys import Keys
    from napari_pathsam._napari.segment_heads import OwnHeads

    docks = []

    def open_():
        viewer = viewer_of()
        dock = BrowseDock(
            viewer, model_loader=lambda name, device: tiny_pathsam, heads=heads,
            own_heads=OwnHeads(tmp_path / "heads.json"), keys=Keys(tmp_path / "keys.json"),
        )  # fmt: skip
        viewer.window.add_dock_widget(dock, name="PathSAM: Browse", area="right")
        docks.append(dock)
        hands = hands_of(viewer)
        hands.settle(10)
        return viewer, dock, hands

    yield open_
    for dock in docks:
        dock.shut_down()
    docks.clear()


def opened(dock, hands, folder) -> None:
    path = dock.view.source._path
    QTest.mouseClick(path, Qt.LeftButton)
    QTest.keyClicks(path, str(folder))
    QTest.keyClick(path, Qt.Key_Return)
    hands.until(lambda: dock.browsing.image is not None, 20_000)


def shown(dock) -> int:
    return dock.browsing.image.index


def rest(dock, hands) -> None:
    hands.until(
        lambda: dock.runner.idle and dock.files.idle and not dock._listing.isActive(), 60_000
    )


def test_a_folder_is_browsed_and_scored_with_mouse_and_keys(browse_of, folder, tiny_pathsam):
    viewer, dock, hands = browse_of()
    dock.view.copy_button.copy_command()
    assert "nothing to copy" in dock.view.status.text()
    opened(dock, hands, folder)
    assert not dock.view.error_bar.text()
    assert dock.view.minimumWidth() <= 380
    assert dock.view.source.set.value() == "folder"  # told by its files
    image, labels = viewer.layers
    assert (image.name, labels.name) == ("field0", "field0: labels")
    names = dict(zip(labels.features["index"], labels.features["class"], strict=True))
    assert names == {0: "background", 1: "gland", 2: "stroma", 255: "not labelled"}

    dock.view.pixel_size._spin.setValue(0.5)
    rest(dock, hands)
    np.testing.assert_allclose(viewer.layers[0].scale, 0.5)
    assert [str(u) for u in viewer.layers[1].units] == ["micrometer"] * 2

    hands.key("PageDown")
    hands.until(lambda: shown(dock) == 1)
    QTest.mouseClick(dock.view.next_button, Qt.LeftButton)
    hands.until(lambda: shown(dock) == 2)
    hands.key("PageUp")
    hands.until(lambda: shown(dock) == 1)
    assert len(viewer.layers) == 2  # the same layers all along
    np.testing.assert_array_equal(viewer.layers[0].data, dock.browsing.image.image)

    dock.view.heads.set_value("tiny:made")
    dock.view.heads.value_changed.emit()
    rest(dock, hands)
    assert set(dock.browsing.scores) == {1}
    assert viewer.layers[2].name == "field1: model"
    assert "Dice of gland" in dock.view.score.text()

    QTest.mouseClick(dock.view.all_button, Qt.LeftButton)
    hands.until(lambda: len(dock.browsing.scores) == N, 60_000)
    rest(dock, hands)
    assert not dock.view.progress.isVisible()
    listed = [row[2] for row in dock.view.list.texts()]
    assert listed == sorted(listed)
    assert f"{N} of {N} scored" in dock.view.totals.text()
    hands.key("Shift+PageUp")
    hands.until(lambda: shown(dock) == dock.browsing.order[0])
    assert dock.view.list.value() == dock.browsing.order[0]
    rest(dock, hands)
    hands.screenshot("60-browse")
    dock.view.copy_button.copy_python()
    assert "ps.evaluate(" in QGuiApplication.clipboard().text()
    dock.view.copy_button.copy_command()
    assert QGuiApplication.clipboard().text().startswith("pathsam evaluate --dataset folder")

    where = dock.view.list._view.visualRect(dock.view.list._rows.index(2, 1)).center()
    QTest.mouseClick(dock.view.list._view.viewport(), Qt.LeftButton, pos=where)
    hands.until(lambda: shown(dock) == dock.browsing.order[2])


def test_a_model_that_answers_clicks_is_scored_by_them(browse_of, folder, heads):
    from napari_pathsam._napari.browse_models import ClickChoice, clicking
    from napari_pathsam._napari.model_chooser import Catalogue, ModelChoice

    viewer, dock, hands = browse_of()
    opened(dock, hands, folder)
    models = (ModelChoice("clicks", "Clicks only", "Finds what is clicked at."),
              ModelChoice(heads[0].name, "a head, imported"))  # fmt: skip
    dock.supply._on_read((tuple(heads), Catalogue(models, frozenset({"auto", "cpu"}))))
    listed = dock.view.heads.heads()
    assert listed == (*heads, clicking(models[0]))  # nothing twice
    assert isinstance(listed[-1], ClickChoice)
    task = dock.view.task
    choose(dock, hands, "clicks")
    assert (task.value(), task.isEnabled()) == ("prompts", False)
    assert viewer.layers[-1].metadata["label_kind"] == "instances"
    assert "IoU after 3 clicks" in dock.view.score.text()
    hands.screenshot("62-browse-clicks")
    dock.view.all_button.click()
    hands.until(lambda: len(dock.browsing.scores) == N, 60_000)
    rest(dock, hands)
    assert f"{N} of {N} scored" in dock.view.totals.text()
    listed = [row[2] for row in dock.view.list.texts()]
    assert listed == sorted(listed)
    choose(dock, hands, "tiny:made")
    assert (task.value(), task.isEnabled()) == ("classes", True)  # what was chosen before
    assert "Dice of gland" in dock.view.score.text()
    task.setCurrentIndex(1)
    rest(dock, hands)
    assert "IoU with a box" in dock.view.score.text()
    dock.supply._on_own_head("/made/wsi.safetensors", None)  # a file that knows no classes
    assert dock.view.heads.value().line == "wsi · answers clicks"
    dock.supply._on_read((heads, Catalogue(models, frozenset())))  # as after a download
    assert dock.view.heads.value().name == "/made/wsi.safetensors"
    rest(dock, hands)


def choose(dock, hands, name: str) -> None:
    dock.view.heads.set_value(name)
    dock.view.heads.value_changed.emit()
    rest(dock, hands)


def test_what_a_person_painted_stays_theirs(browse_of, folder):
    viewer, dock, hands = browse_of()
    opened(dock, hands, folder)
    mine = viewer.layers[1]
    mine.data_setitem((np.arange(5), np.arange(5)), 1)
    painted = mine.data.copy()
    hands.key("PageDown")
    hands.until(lambda: shown(dock) == 1)
    assert mine.name == "field0: labels (yours)"
    np.testing.assert_array_equal(mine.data, painted)
    assert viewer.layers[-1].name == "field1: labels"
    viewer.layers.clear()
    hands.key("PageDown")
    hands.until(lambda: shown(dock) == 2)
    assert [layer.name for layer in viewer.layers] == ["field2", "field2: labels"]


def test_a_wrong_folder_is_said_and_scoring_can_be_stopped(browse_of, folder, tmp_path):
    viewer, dock, hands = browse_of()
    QTest.mouseClick(dock.view.all_button, Qt.LeftButton)  # off: there is nothing yet
    dock.score_all()
    assert "Choose a model first" in dock.view.error_bar.text()
    dock.view.source.set_value("glas", tmp_path)
    dock.open()
    hands.until(lambda: "holds no image of GlaS" in dock.view.error_bar.text())
    assert not viewer.layers
    hands.screenshot("61-browse-wrong")
    dock.view.source.set_value(None, None)
    opened(dock, hands, folder)
    assert not dock.view.error_bar.text()
    dock.view.heads.set_value("tiny:made")
    dock.view.heads.value_changed.emit()
    dock.view.all_button.click()
    hands.until(lambda: dock.view.progress.isVisible())
    dock.view.progress.cancel_button.click()
    rest(dock, hands)
    assert not dock.browsing.scoring_all
    assert not dock.view.progress.isVisible()


def test_every_part_says_what_it_is_for(browse_of):
    _, dock, _ = browse_of()
    silent = [
        w
        for w in dock.view.findChildren(QWidget)
        if w.metaObject().className() in ("QPushButton", "QComboBox", "Choice", "QLineEdit")
        and w.isVisibleTo(dock.view)
        and not w.toolTip()
        and type(w.parent()).__name__ not in ("MessageBar", "QDoubleSpinBox")
    ]
    assert not silent


def test_the_menu_opens_the_dock(make_napari_viewer):
    from napari_pathsam._napari.browse import BrowseDock, browse_data_set

    viewer = make_napari_viewer()
    browse_data_set(viewer)
    [dock] = [w for w in viewer.window.dock_widgets.values() if isinstance(w, BrowseDock)]
    dock.shut_down()
