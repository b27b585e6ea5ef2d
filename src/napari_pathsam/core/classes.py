"""ClassTable: which id means which class, under what name and colour."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from napari_pathsam.core.errors import BadFileError

PALETTE = (
    "#e6550d", "#3182bd", "#31a354", "#756bb1", "#fdd835", "#e7298a",
    "#17becf", "#8c564b", "#a1d99b", "#9ecae1", "#fdae6b", "#bcbddc",
)  # fmt: skip

DEFAULT_NAME = re.compile(r"Class \d+′*|object")
"""What a class is called before anybody named it, in Fine-tune and in Annotate."""


class ClassInfo(BaseModel):
    """One class. Id 0 is background and never listed.

    ``also``: names it had before; labels made then still call it so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    name: str
    color: str
    also: tuple[str, ...] = ()

    @field_validator("id")
    @classmethod
    def _positive(cls, value: int) -> int:
        if not 1 <= value <= 254:
            raise ValueError(f"class id {value} is not between 1 and 254 (0 is background)")
        return value

    @field_validator("name")
    @classmethod
    def _named(cls, value: str) -> str:
        if not (value := value.strip()):
            raise ValueError("a class needs a name")
        return value

    @field_validator("color")
    @classmethod
    def _hex(cls, value: str) -> str:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise ValueError(f"colour {value!r} is not of the form #rrggbb")
        return value.lower()

    @model_serializer(mode="wrap")
    def _lean(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As ever where a class has had one name only."""
        written: dict[str, Any] = write(self)
        if not self.also:
            written.pop("also", None)
        return written


class ClassTable(BaseModel):
    """The classes of a label map or a model, in id order; names and ids are unique."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[ClassInfo, ...] = ()

    @model_validator(mode="after")
    def _unique(self) -> ClassTable:
        for what in ("id", "name"):
            seen = [getattr(c, what) for c in self.classes]
            twice = sorted({str(v) for v in seen if seen.count(v) > 1})
            if twice:
                raise ValueError(f"two classes share the {what} {', '.join(twice)}")
        return self

    @classmethod
    def of(cls, *names: str) -> ClassTable:
        """Classes with ids 1, 2, … and colours from the palette."""
        table = cls()
        for name in names:
            table = table.with_class(name)
        return table

    def __iter__(self) -> Iterator[ClassInfo]:  # type: ignore[override]
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, class_id: int) -> ClassInfo:
        for info in self.classes:
            if info.id == class_id:
                return info
        raise KeyError(f"no class has the id {class_id}; there are {[c.id for c in self.classes]}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

    def id_of(self, name: str) -> int:
        """The id of the class of this name; KeyError lists the names there are."""
        for info in self.classes:
            if info.name == name:
                return info.id
        raise KeyError(f"no class is called {name!r}; there are {', '.join(self.names) or 'none'}")

    def find(self, name: str) -> int | None:
        """The id of the class of this name, in either case, or of the one that was called so."""
        name = name.strip().casefold()
        for info in self.classes:
            if info.name.casefold() == name:
                return info.id
        former = (c.id for c in self.classes if name in [n.casefold() for n in c.also])
        return next(former, None)

    def with_class(
        self, name: str, color: str | None = None, *, avoid: Collection[int] = ()
    ) -> ClassTable:
        """The table with one more class, under the smallest free id.

        Where there is a choice it is none of ``avoid``.
        """
        taken = {c.id for c in self.classes}
        free = [i for i in range(1, 255) if i not in taken]
        new_id = next((i for i in free if i not in avoid), None) or next(iter(free))
        color = color or PALETTE[(new_id - 1) % len(PALETTE)]
        added = ClassInfo(id=new_id, name=name, color=color)
        return ClassTable(classes=tuple(sorted((*self.classes, added), key=lambda c: c.id)))

    def replacing(self, info: ClassInfo) -> ClassTable:
        """The table with the class of this id renamed or recoloured."""
        self[info.id]
        return ClassTable(classes=tuple(info if c.id == info.id else c for c in self.classes))

    def remembering(self, old: ClassTable) -> ClassTable:
        """The table, of which each class knows the names it had in an older one.

        Not those that nobody chose, and none once a class has an older name back.
        """
        before, found = {c.id: c for c in old}, []
        for info in self.classes:
            was = before.get(info.id, info)
            names = dict.fromkeys((*was.also, *info.also, was.name))
            also = [n for n in names if not DEFAULT_NAME.fullmatch(n)]
            if info.name in also:
                also = also[: also.index(info.name)]
            found.append(info.model_copy(update={"also": tuple(also)}))
        return ClassTable(classes=tuple(found))

    def renaming(self, names: Mapping[str, str]) -> ClassTable:
        """The table after others renamed classes, old name to new.

        A class that is called otherwise here stays so, and is known by their new name, too; so do
        all where another class has the new name.
        """
        table = self
        for old, new in names.items():
            own = table.find(old)
            if own is None or table.find(new) not in (None, own):
                continue
            info = table[own]
            same = info.name.casefold() == old.strip().casefold()
            update = {"name": new} if same else {"also": (*info.also, new)}
            table = table.replacing(info.model_copy(update=update))
        return table

    def counterparts(self, other: ClassTable) -> dict[int, int]:
        """The id that a class has in another table, by its id here, where it is there.

        The names are the same, in either case; of those for which there is no such, one table knows
        the other's name from before.
        """
        here = {info.name.casefold(): info.id for info in self}
        found = {here[i.name.casefold()]: i.id for i in other if i.name.casefold() in here}
        for info in self:
            left = [i for i in other if i.id not in found.values()]
            there = next((i.id for i in left if _names(i) & _names(info)), None)
            if info.id not in found and there is not None:
                found[info.id] = there
        return found

    def without(self, class_id: int) -> ClassTable:
        """The table without this class."""
        self[class_id]
        return ClassTable(classes=tuple(c for c in self.classes if c.id != class_id))

    def to_csv(self) -> str:
        """``id,name,color`` with a header line."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["id", "name", "color"])
        writer.writerows([c.id, c.name, c.color] for c in self.classes)
        return out.getvalue()

    @classmethod
    def from_csv(cls, text: str) -> ClassTable:
        """Read :meth:`to_csv`'s format; the colour column may be missing."""
        rows = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"))))
        try:
            found = tuple(
                ClassInfo(
                    id=int(row["id"]),
                    name=row["name"],
                    color=row.get("color") or PALETTE[(int(row["id"]) - 1) % len(PALETTE)],
                )
                for row in rows
            )
            return cls(classes=tuple(sorted(found, key=lambda c: c.id)))
        except (KeyError, TypeError, ValueError) as error:
            raise BadFileError(
                "This is not a class table: a CSV with the columns id,name,color is wanted, "
                f"one class a line, ids from 1 to 254, names and ids unique ({error})."
            ) from error


def _names(info: ClassInfo) -> set[str]:
    """Those it has and had."""
    return {name.casefold() for name in (info.name, *info.also)}
