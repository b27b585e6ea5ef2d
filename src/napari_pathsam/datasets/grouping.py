"""Whose image it is, told by its name: patients of data that says nothing of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import DataSet, Sample


def grouped(samples: Iterable[Sample], pattern: str | None) -> list[Sample]:
    """The samples, what matches a pattern in a name being its group; None: each as it is.

    A name in which nothing matches keeps the group it has.

    Raises
    ------
    BadFileError
        It is no regular expression, or matches in no name.
    """
    found = list(samples)
    if pattern is None:
        return found
    try:
        matches = [m[0] if (m := re.search(pattern, s.name)) else "" for s in found]
    except re.error as error:
        raise BadFileError(
            f"{pattern!r}, by which images are to be grouped, is no regular expression ({error})."
        ) from error
    if found and not any(matches):
        raise BadFileError(
            f"{pattern!r}, by which images are to be grouped, matches in none of the "
            f"{len(found)} names ({', '.join(s.name for s in found[:3])} …). It is a regular "
            "expression: P[0-9]+ takes P07 of slide_P07_x12.png."
        )
    return [replace(s, group=m or s.group) for s, m in zip(found, matches, strict=True)]


def grouping(data: DataSet, pattern: str | None) -> DataSet:
    """The data set with its images grouped so; a split of ours that parts a group is refused."""
    return data if pattern is None else replace(data, find=_Grouped(data.find, pattern))


@dataclass(frozen=True)
class _Grouped:
    find: Callable[[Path], list[Sample]]
    pattern: str

    def __call__(self, root: Path) -> list[Sample]:
        return grouped(self.find(root), self.pattern)
