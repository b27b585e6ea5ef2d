"""Keys: which of napari's own they touch, and changing them."""

from __future__ import annotations

import pytest
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import default_shortcuts

from napari_pathsam._napari.cheat_sheet import from_qt, to_qt
from napari_pathsam._napari.keys import ACTIONS, LAYER_KEYS, Keys

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


def test_viewer_keys_are_free_in_napari():
    taken = {str(key) for keys in default_shortcuts.values() for key in keys}
    ours = {a.id: str(coerce_keybinding(a.key)) for a in ACTIONS}
    assert {i for i, key in ours.items() if key in taken} == {"sign", "cancel"} <= set(LAYER_KEYS)
    assert len(set(ours.values())) == len(ours)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: a.id)
def test_qt_and_napari_spell_the_same_key(action):
    assert from_qt(to_qt(action.key)) == action.key


def test_a_key_is_changed_kept_and_put_back(tmp_path):
    keys = Keys(tmp_path / "keys.json")
    assert keys.rebind("accept", "Shift-A") is None
    assert Keys(tmp_path / "keys.json").shown("accept") == "Shift+A"
    assert keys.rebind("cycle", "Shift-A") == "accept"
    assert keys["cycle"] == "Q"
    keys.reset()
    assert Keys(tmp_path / "keys.json")["accept"] == "N"


def test_a_broken_file_does_no_harm(tmp_path):
    path = tmp_path / "keys.json"
    for text in ("", "[1]", '{"accept": 3, "nothing": "A"}', "{"):
        path.write_text(text)
        assert Keys(path)["accept"] == "N"


def test_a_changed_key_works_at_once(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    dock.show_keys()
    dock._cheat_sheet.rebind("accept", "Shift+A")
    assert "Shift+A" in dock.view.candidate.accept_button.text()
    hands.click(field.lumen)
    hands.until(lambda: dock.workspace.candidate is not None)
    hands.key("N")
    assert not dock.workspace.objects
    hands.key("Shift+A")
    assert len(dock.workspace.objects) == 1
