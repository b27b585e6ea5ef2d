"""Which run a saved state is of: its settings, images, labels and weights; another is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from napari_pathsam.core.errors import BadFileError

Run = dict[str, dict[str, str]]
"""``settings`` by name, as JSON; ``data`` by what they are, as digests."""
SHOWN, SHORT = 6, 40
"""So many differences are told; longer values are not."""
NOT_A_STATE = (
    ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, UnpicklingError,
)  # fmt: skip
"""What reading a file that is no state raises."""


def run_of(settings: Mapping[str, Any], data: Mapping[str, Iterable[str]]) -> Run:
    """What must be the same for a run to go on, as :func:`saved_state` compares it."""
    return {
        "settings": _flat(settings),
        "data": {name: _digest(told) for name, told in data.items()},
    }


def _digest(told: Iterable[str]) -> str:
    """Of texts, in their order."""
    return hashlib.blake2b(json.dumps(list(told)).encode(), digest_size=16).hexdigest()


def save_state(path: Path, state: Mapping[str, Any], run: Run) -> None:
    """Write what :func:`saved_state` reads, whole or not at all."""
    unfinished = path.with_suffix(".partial")
    torch.save({**state, "run": run}, unfinished)
    unfinished.replace(path)


def saved_state(path: Path, run: Run, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state in a file, with ``run`` as its ``"run"``.

    Raises
    ------
    BadFileError
        It is no saved state, or that of another run.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location=device)
        before = state.get("run")
    except NOT_A_STATE as error:
        raise not_resumed(path, str(error)) from error
    if before is None:
        raise not_resumed(path, "it does not say which run it is of")
    if differences := _differences(before, run):
        more = "; …" if len(differences) > SHOWN else ""
        raise not_resumed(path, f"it is of another run ({'; '.join(differences[:SHOWN])}{more})")
    return state


def not_resumed(path: Path, why: str) -> BadFileError:
    """The readable form of a state that cannot be gone on with."""
    return BadFileError(
        f"Training cannot go on from {path}: {why}. Give the command that was stopped, on the same "
        "images and labels, with --resume; or leave out --resume, to start anew."
    )


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested settings as one table: ``loss.alpha``."""
    if not isinstance(value, Mapping):
        return {name: json.dumps(value)}
    found: dict[str, str] = {}
    for key, one in value.items():
        found |= _flat(one, f"{name}.{key}" if name else str(key))
    return found


def _differences(before: Run, now: Run) -> list[str]:
    data = [f"other {name}" for name, d in now["data"].items() if before["data"].get(name) != d]
    was, wanted = before["settings"], now["settings"]
    if wanted.get("schedule") == '"constant"' and _epochs(was) <= _epochs(wanted):
        was = was | {"epochs": wanted["epochs"]}  # no step depends on how many follow
    names = [name for name in {**was, **wanted} if was.get(name) != wanted.get(name)]
    return data + [_changed(name, was.get(name), wanted.get(name)) for name in names]


def _epochs(settings: Mapping[str, str]) -> int:
    return int(settings.get("epochs", 0))


def _changed(name: str, before: str | None, now: str | None) -> str:
    if before is None or now is None or max(len(before), len(now)) > SHORT:
        return f"another {name}"
    return f"{name} {before}, now {now}"
