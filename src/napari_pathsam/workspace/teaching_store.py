"""Where lessons are kept: one folder each, so that strokes and versions survive a crash.

``lesson.json`` says what there is; ``strokes-*.npz`` hold what was painted, one file an image;
versions are model files beside them. Every file is written whole and then put in place.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_data_dir
from pydantic import ValidationError

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._files import locked, replacing
from napari_pathsam.workspace.teaching_lesson import Lesson

LESSON = "lesson.json"
DISCARDED = ".discarded"
PART = "@"
"""Of a slide each part has a key of its own: the slide's, this, and where it is."""


def image_of(key: str) -> str:
    """The key of the image, of one of its parts too."""
    return re.sub(rf"{PART}\d+-\d+$", "", key)


def is_of(key: str, image_key: str) -> bool:
    """Whether a key is an image's, or that of a part of it."""
    return image_key in (key, image_of(key))


def file_key(path: Path) -> str:
    """What names an image that is read from its file."""
    return f"file:{path.resolve()}"


@dataclass(frozen=True)
class Strokes:
    """What was painted on one image: ids ``(h, w)`` over a level-0 region; None: all of it."""

    labels: NDArray[np.integer]
    at: Region | None = None

    def over(self, region: Region) -> NDArray[np.integer]:
        """``(h, w)``, on the pixels of another region: 0 where nothing is known of them."""
        out = np.zeros(region.shape_yx, self.labels.dtype)
        at = self.at or Region.of(self.labels.shape)
        if (both := at.intersection(region)) is not None:
            to = Region(both.y - region.y, both.x - region.x, *both.shape_yx).slices
            out[to] = self.labels[Region(both.y - at.y, both.x - at.x, *both.shape_yx).slices]
        return out


class LessonFolder:
    """The folder of one lesson, held by one process; written in a worker.

    Nothing is on disk before the first :meth:`save`.
    """

    def __init__(self, path: Path, lesson: Lesson | None = None, lock: IO[bytes] | None = None):
        now = datetime.now()
        self.path = path
        self.lesson = lesson or Lesson(started=now, saved=now)
        self._lock = lock

    def save(self, lesson: Lesson) -> None:
        """Write down what there is; BadFileError when the disk does not let us."""
        self._make()
        written = lesson.model_copy(update={"saved": datetime.now()})
        with replacing(self.path / LESSON) as temporary, temporary.open("wb") as file:
            file.write(written.model_dump_json(indent=1).encode())
            file.flush()
            os.fsync(file.fileno())

    def save_strokes(self, key: str, strokes: Strokes) -> None:
        """Write down what was painted on an image."""
        self._make()
        at = strokes.at
        where = (-1,) * 4 if at is None else (at.y, at.x, at.height, at.width)
        with replacing(self._strokes(key)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, labels=_small(strokes.labels), at=np.array(where, np.int64))

    def strokes(self, key: str) -> Strokes | None:
        """What was painted on an image; None where nothing was, or it cannot be read any more."""
        return _read(self._strokes(key))

    def newest_strokes(self, key: str) -> Strokes | None:
        """Those, or where they hold nothing any more those that were set aside last."""
        found = self.strokes(key)
        if found is not None and found.labels.any():
            return found
        earlier = (_read(path) for path in reversed(self._aside(key)))
        return next((each for each in earlier if each is not None), found)

    def set_aside(self, key: str) -> None:
        """Keep what is on disk of an image for good: others are going to take its place."""
        path, found = self._strokes(key), self.strokes(key)
        if found is None or not found.labels.any():
            return
        earlier = self._aside(key)
        if not any(filecmp.cmp(path, each, shallow=False) for each in earlier):
            shutil.copyfile(path, path.with_suffix(f".{len(earlier) + 1:03}.npz"))

    def _aside(self, key: str) -> list[Path]:
        return sorted(self.path.glob(f"{self._strokes(key).stem}.*.npz"))

    def file(self, name: str) -> Path:
        """A file of the lesson."""
        self._make()
        return self.path / name

    def remove(self, *names: str | None) -> None:
        """Files that are no longer needed."""
        for name in names:
            if name is not None:
                with suppress(OSError):
                    (self.path / name).unlink(missing_ok=True)

    def discard(self) -> None:
        """Set the lesson aside: it is not offered any more, and nothing is deleted."""
        with suppress(OSError):
            (self.path / LESSON).replace(self.path / (LESSON + DISCARDED))
        self.close()

    def close(self) -> None:
        """Let another process have it."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self._lock is None:
                self._lock = locked(self.path / "lesson.lock")
        except OSError as error:
            raise BadFileError(
                f"{self.path} could not be written: {error.strerror or error}. Training goes on, "
                "but strokes and versions are lost if the program ends by accident."
            ) from error

    def _strokes(self, key: str) -> Path:
        return self.path / f"strokes-{sha256(key.encode()).hexdigest()[:24]}.npz"


class LessonStore:
    """All lessons of this user; ``directory`` None: in the user's data folder."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or Path(user_data_dir("napari-pathsam")) / "lessons"

    def new(self) -> LessonFolder:
        """A lesson that nobody has begun yet."""
        stem = f"{datetime.now():%Y-%m-%d %H%M%S}"
        names = (stem + (f" {n}" if n else "") for n in range(1000))
        return LessonFolder(next(p for n in names if not (p := self.directory / n).exists()))

    def find(self, *image_keys: str) -> LessonFolder | None:
        """The lesson saved last with one of these images that no other process holds, locked."""
        found = []
        for path in self.directory.glob(f"*/{LESSON}"):
            lesson = read_lesson(path)
            if lesson is not None and _has(lesson, image_keys):
                found.append((lesson.saved, path.parent, lesson))
        for _, path, lesson in sorted(found, key=lambda f: f[0], reverse=True):
            with suppress(OSError):
                if (lock := locked(path / "lesson.lock")) is not None:
                    return LessonFolder(path, lesson, lock)
        return None


def _read(path: Path) -> Strokes | None:
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
        with np.load(path, allow_pickle=False) as found:
            labels, at = found["labels"], [int(v) for v in found["at"]]
        return Strokes(labels, None if at[0] < 0 else Region(*at))
    return None


def _has(lesson: Lesson, image_keys: Iterable[str]) -> bool:
    own = [*lesson.images, *(file_key(file.image) for file in lesson.files)]
    return any(is_of(key, image_key) for image_key in image_keys for key in own)


def read_lesson(path: Path) -> Lesson | None:
    """A lesson, or None when it is damaged or of a newer version: then it is left alone."""
    with suppress(OSError, ValidationError, ValueError):
        return Lesson.model_validate_json(path.read_bytes())
    return None


def _small(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    top = int(labels.max(initial=0))
    return labels.astype(np.uint8 if top < 256 else np.uint16 if top < 65536 else np.int32)
