"""Which class of the labels a model's class counts as: by name, by mapping, or the only one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError

BACKGROUND = "background"
REST = "*"
"""On the left of a mapping: every class of the model that is not mapped otherwise."""


@dataclass(frozen=True)
class ClassMatch:
    """Ids of labels and of a model, both turned into positions among the labels' classes.

    Attributes
    ----------
    names
        ``("background", first class, …)``: what positions 0, 1, … stand for.
    of_label
        Position by id in the labels, ``(256,)``; -1: no class has this id.
    of_model
        Position by id in the model's class maps, ``(256,)``; what is unsure counts as background.
    unknown
        Classes of the labels that no class of the model counts as: the model must miss them.
    """

    names: tuple[str, ...]
    of_label: NDArray[np.int16]
    of_model: NDArray[np.uint8]
    unknown: tuple[str, ...]


def match_classes(
    model: ClassTable, labels: ClassTable, mapping: Mapping[str, str] | None = None
) -> ClassMatch:
    """Match a model's classes to those of labels.

    A mapping ``{model's class: labels' class}`` comes first; ``"*"`` stands for all the others, and
    ``"background"`` for no class, also where the labels have an id for it. Without a mapping,
    classes of the same name belong together (case, dashes and underscores aside), and so do the
    only class here and the only class there. What is left of the model's classes counts as
    background.

    Raises
    ------
    BadFileError
        The mapping names a class that is not there, or nothing of the model counts as any class.
    """
    names = (BACKGROUND, *(n for n in labels.names if _plain(n) != BACKGROUND))
    position = {_plain(name): i for i, name in enumerate(names)}
    wanted = _checked(mapping or {}, model, labels)
    of_model = np.zeros(256, np.uint8)
    for info in model:
        name = _plain(info.name)
        if name in wanted:
            of_model[info.id] = position[wanted[name]]
        elif name in position:
            of_model[info.id] = position[name]
        elif REST in wanted:
            of_model[info.id] = position[wanted[REST]]
        elif len(model) == len(names) - 1 == 1:
            of_model[info.id] = 1
    if not of_model.any():
        raise BadFileError(
            f"None of the model's classes ({', '.join(model.names)}) is a class of the labels "
            f"({', '.join(labels.names)}). Say which is which with --map MODEL=LABEL; "
            f"--map '*={labels.names[0] if labels.names else 'CLASS'}' takes all of the model's."
        )
    of_label = np.full(256, -1, np.int16)
    of_label[0] = 0
    for info in labels:
        of_label[info.id] = position[_plain(info.name)]
    unknown = tuple(n for i, n in enumerate(names) if i > 0 and i not in of_model)
    return ClassMatch(names, of_label, of_model, unknown)


def _checked(mapping: Mapping[str, str], model: ClassTable, labels: ClassTable) -> dict[str, str]:
    """The mapping in plain names; BadFileError for a name that is not there."""
    for side, given, known in (
        ("the model", mapping.keys(), {*model.names, REST}),
        ("the labels", mapping.values(), {*labels.names, BACKGROUND}),
    ):
        plain = {_plain(name) for name in known}
        for name in given:
            if _plain(name) not in plain:
                raise BadFileError(
                    f"The mapping {', '.join(f'{a}={b}' for a, b in mapping.items())} names "
                    f"{name!r}, which is no class of {side}; there are {', '.join(sorted(known))}."
                )
    return {_plain(a): _plain(b) for a, b in mapping.items()}


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("-", " ").replace("_", " ").split())
