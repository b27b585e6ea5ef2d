"""Locks between processes, and where a drive knows none."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from napari_pathsam.io._files import locked

ASKS = "import sys; from pathlib import Path; from napari_pathsam.io._files import locked; "
ASKS += "print(locked(Path(sys.argv[1])))"


def test_one_at_a_time_and_free_again(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    lock = locked(path)
    assert lock is not None
    assert locked(path) is None  # in this process, too
    words = [sys.executable, "-c", ASKS, str(path)]
    assert subprocess.check_output(words, text=True).strip() == "None"
    lock.close()
    again = locked(path)
    assert again is not None
    again.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks in another way")
def test_a_drive_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(file: object, how: int) -> None:
        raise OSError(why, "told by the drive")

    monkeypatch.setattr("fcntl.flock", none)
    why = errno.ENOLCK
    lock = locked(tmp_path / "a.lock")
    assert lock is not None
    lock.close()
    why = errno.EIO
    with pytest.raises(OSError, match="told by the drive"):
        locked(tmp_path / "a.lock")
