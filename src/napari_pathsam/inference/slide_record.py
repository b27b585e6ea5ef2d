"""The record of a run over a slide: which blocks are done, one line each, beside the labels.

A line is added when a block's labels are on the disk. Whoever is killed leaves at most half a line,
which is dropped; that block is worked on again, and comes out the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.seams import SeamCounts
from napari_pathsam.inference.windows import Damage


class Record:
    """What is done of a run; one writer.

    Parameters
    ----------
    path
        A text file, made when the first block is done.
    about
        Settings that a run keeps when it goes on, such as its batch; those of the first session.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        self.about = dict(about)
        self.seams: dict[int, SeamCounts] = {}
        self.damage: list[Damage] = []
        self.finished = False
        if path.exists():
            self._read()
        else:
            self._write({"about": self.about})

    @property
    def done(self) -> frozenset[int]:
        """The numbers of the blocks that are done."""
        return frozenset(self.seams)

    def add(self, number: int, seams: SeamCounts, damage: tuple[Damage, ...]) -> None:
        """A block is done."""
        fresh = [d for d in damage if d not in self.damage]
        self._write(
            {
                "block": number,
                "seams": astuple(seams),
                "damage": [[*astuple(d.region), d.reason] for d in fresh],
            }
        )
        self.seams[number] = seams
        self.damage += fresh

    def finish(self) -> None:
        """All is done."""
        if not self.finished:
            self._write({"finished": True})
            self.finished = True

    def _write(self, entry: Mapping[str, Any]) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(json.dumps(entry).encode() + b"\n")
        except OSError as error:
            raise BadFileError(
                f"{self._path} could not be written: {error.strerror or error}. What is finished "
                "is kept; free some space and segment the slide once more in the same way "
                "(on the command line with --resume)."
            ) from error

    def _read(self) -> None:
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self._path, whole)
        try:
            for line in data[:whole].splitlines():
                self._take(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise BadFileError(
                f"{self._path} is damaged, so it is not known which parts of the slide are done. "
                "Remove the labels it lies in and begin again."
            ) from error

    def _take(self, entry: Mapping[str, Any]) -> None:
        if "about" in entry:
            self.about = dict(entry["about"])
        if "block" in entry:
            self.seams[int(entry["block"])] = SeamCounts(*entry["seams"])
            self.damage += [Damage(Region(*d[:4]), str(d[4])) for d in entry["damage"]]
        self.finished = self.finished or bool(entry.get("finished"))


def recorded(path: Path) -> frozenset[int]:
    """The numbers of the blocks that are done, for whoever does not write; of no record, none."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # the last may be half a line
    except FileNotFoundError:
        return frozenset()
    entries = (json.loads(line) for line in lines)
    return frozenset(int(entry["block"]) for entry in entries if "block" in entry)


def places(damage: list[Damage]) -> list[Damage]:
    """What overlaps or touches put together: windows that share pixels report them each."""
    found: list[Damage] = []
    for one in sorted(damage, key=lambda d: (d.region.y, d.region.x)):
        region = one.region
        while True:
            near = Region(region.y - 1, region.x - 1, region.height + 2, region.width + 2)
            same = next((d for d in found if d.region.intersection(near)), None)
            if same is None:
                break
            found.remove(same)
            region = _hull(region, same.region)
        found.append(Damage(region, one.reason))
    return found


def _hull(a: Region, b: Region) -> Region:
    y, x = min(a.y, b.y), min(a.x, b.x)
    bottom, right = max(a.y + a.height, b.y + b.height), max(a.x + a.width, b.x + b.width)
    return Region(y, x, bottom - y, right - x)
