"""The dock's keys: what each does, its default, the person's own choice, and binding them.

Viewer-level keys are only ones that napari 0.9 leaves free on every layer type. The few that shadow
napari's own (``LAYER_KEYS``) are bound on our prompt and labels layers alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer


@dataclass(frozen=True)
class Action:
    """Something a key does; ``key`` is its default in napari's spelling (``Control-Z``)."""

    id: str
    title: str
    key: str


TOOL_IDS = ("point", "box", "scribble", "lasso", "refine")
ACTIONS = (
    Action("point", "Point tool", "Control-1"),
    Action("box", "Box tool", "Control-2"),
    Action("scribble", "Scribble tool", "Control-3"),
    Action("lasso", "Lasso tool", "Control-4"),
    Action("refine", "Refine an accepted object", "Control-5"),
    Action("sign", "Switch between + and −", "T"),
    Action("back", "Back to the tool's layer", "G"),
    Action("accept", "Accept, and on to the next object", "N"),
    Action("overwrite", "Accept over existing objects", "Shift-N"),
    Action("reject", "Reject the candidate", "Shift-C"),
    Action("cycle", "Next of the three masks", "Q"),
    Action("cancel", "Cancel what is running", "Escape"),
    Action("undo", "Undo", "Control-Z"),
    Action("redo", "Redo", "Control-Shift-Z"),
    Action("delete", "Delete the refined object", "Shift-Delete"),
    Action("peek", "Hide objects while held", "H"),
    Action("help", "Show these keys", "F1"),
    Action("train", "Fine-tune: train", "Control-Enter"),
    Action("swipe", "Fine-tune: before, and back", "W"),
    Action("next_place", "Fine-tune: next uncertain place", "J"),
    Action("previous_place", "Fine-tune: the place before", "K"),
    Action("next_image", "Browse: next image", "PageDown"),
    Action("previous_image", "Browse: the image before", "PageUp"),
    Action("worst_image", "Browse: the worst image", "Shift-PageUp"),
    *(Action(f"class{n}", f"Class {n}", f"Alt-{n}") for n in range(1, 10)),
)
LAYER_KEYS = ("sign", "cancel", "undo", "redo")
"""Bound on our own layers too, where they take precedence over napari's: T (add path, Shapes),
Escape (finish drawing, Shapes), Control-Z and Control-Shift-Z (undo painting, Labels)."""

MOUSE = (
    ("Click", "+ point (− when the sign is −)"),
    ("Shift + click", "− point"),
    ("Drag", "box, scribble or lasso, by the tool"),
    ("Right click", "menu: accept, reject, next mask, delete"),
    ("Space held", "pan with the left button"),
)


def shown(key: str) -> str:
    """A key as it is printed on a button: ``Control-Shift-Z`` is ``Ctrl+Shift+Z``."""
    for long, short in (("Control", "Ctrl"), ("Escape", "Esc"), ("Delete", "Del"), ("-", "+")):
        key = key.replace(long, short)
    return key


class Keys:
    """Which key does what: the defaults and the person's changes, kept in a small file."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or Path(platformdirs.user_config_dir("napari-pathsam")) / "keys.json"
        self._changed: dict[str, str] = {}
        with suppress(OSError, ValueError):
            saved = json.loads(self._path.read_text("utf-8"))
            if not isinstance(saved, dict):
                saved = {}
            known = {a.id for a in ACTIONS}
            self._changed = {i: k for i, k in saved.items() if i in known and isinstance(k, str)}

    def __getitem__(self, action_id: str) -> str:
        default = next(a.key for a in ACTIONS if a.id == action_id)
        return self._changed.get(action_id, default)

    def changed(self, action_id: str) -> bool:
        """Whether the person chose this key."""
        return action_id in self._changed

    def shown(self, action_id: str) -> str:
        """The key as it is printed."""
        return shown(self[action_id])

    def rebind(self, action_id: str, key: str) -> str | None:
        """Give an action another key; returns the action that already has it, changing nothing."""
        for other in ACTIONS:
            if key and other.id != action_id and self[other.id].lower() == key.lower():
                return other.id
        self._changed[action_id] = key
        self._save()
        return None

    def reset(self) -> None:
        """Back to the defaults."""
        self._changed = {}
        self._save()

    def _save(self) -> None:
        with suppress(OSError):  # a read-only home: the keys hold until the viewer is closed
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._changed, indent=1), "utf-8")


class KeyBinder:
    """Binds a set of actions on a viewer and on our layers, and takes them off again."""

    def __init__(
        self, viewer: Viewer, keys: Keys, actions: Mapping[str, Callable[[], Any]]
    ) -> None:
        self._viewer = viewer
        self._keys = keys
        self._actions = actions
        self._bound: list[tuple[Any, str]] = []

    def bind(self, layers: list[Layer]) -> None:
        """Bind every action on the viewer, and those of ``LAYER_KEYS`` on these layers."""
        self.unbind()
        for action_id, call in self._actions.items():
            if not (key := self._keys[action_id]):
                continue
            # A key of the person's own choice may be one that layers use: theirs goes first.
            on_layers = action_id in LAYER_KEYS or self._keys.changed(action_id)
            targets: list[Any] = [*layers] if on_layers else []
            targets.append(self._viewer)  # what the active layer does with the key goes before
            for target in targets:
                target.bind_key(key, _callback(call), overwrite=True)
                self._bound.append((target, key))

    def unbind(self) -> None:
        """Give every key back."""
        for target, key in self._bound:
            with suppress(KeyError, ValueError, RuntimeError):
                target.bind_key(key, None, overwrite=True)
        self._bound = []


def _callback(call: Callable[[], Any]) -> Callable[[Any], Any]:
    """As napari calls it: with the viewer or layer. What ``call`` returns runs at release."""

    def on_key(_target: Any) -> Any:
        released = call()
        if callable(released):
            yield
            released()

    return on_key
