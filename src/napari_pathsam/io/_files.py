"""Paths: checked before they are read, written beside and then put in place."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from napari_pathsam.core.errors import BadFileError, PathsamError

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def existing_file(path: str | os.PathLike[str], *, wanted: str) -> Path:
    """The path, when a file that can be opened lies there; BadFileError otherwise."""
    path = Path(path)
    if path.is_dir():
        raise BadFileError(
            f"{path} is a folder, and {wanted} is wanted. Choose one file in it "
            "(of folders only OME-Zarr can be opened)."
        )
    if not path.exists():
        raise BadFileError(
            f"There is no file {path}. Check the spelling, and that the drive is connected."
        )
    if path.stat().st_size == 0:
        raise BadFileError(f"{path} is empty (0 bytes), and {wanted} is wanted. Copy it again.")
    return path


def starts_as_tiff(path: Path) -> bool:
    """Whether a file's first bytes are those of a TIFF, whatever its name."""
    with reading(path), path.open("rb") as file:
        return file.read(4) in TIFF_MAGIC


def looks_like_text(path: Path) -> bool:
    """Whether a file's first bytes are plain text."""
    with reading(path), path.open("rb") as file:
        head = file.read(512)
    return bool(head) and all(byte in b"\t\n\r\f" or byte >= 32 for byte in head)


@contextmanager
def reading(path: Path, wanted: str = "a readable file") -> Iterator[None]:
    """Turn whatever a decoder throws at a damaged file into one BadFileError."""
    try:
        yield
    except PathsamError:
        raise
    except MemoryError as error:
        raise BadFileError(
            f"{path.name} does not fit into memory. Save it as a pyramidal, tiled TIFF; "
            "that is read piece by piece."
        ) from error
    except PermissionError as error:
        raise BadFileError(f"{path} may not be read: {error.strerror}.") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadFileError(
            f"{path.name} could not be read as {wanted}: the file is damaged or of another kind "
            f"({reason}). Try to open it in the program that made it, and copy or export it again."
        ) from error


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the same folder, moved to ``path`` when the block ends well.

    A full disk or a read-only folder is a BadFileError, and an older file stays as it was.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise BadFileError(
            f"{path} could not be written: {error.strerror or error}. "
            "Choose another folder or free some space; nothing was changed."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def locked(path: Path) -> IO[bytes] | None:
    """The file, open and locked until it is closed or the process ends; None: another has it.

    On a drive that knows no locks it is only open: one person there is the rule.
    """
    file = path.open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        return None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            file.close()
            raise
    return file
