"""A folder is in use while anybody says so, here or in another process."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from napari_pathsam.io._in_use import InUse, in_use

USES = """
import sys
from pathlib import Path
from napari_pathsam.io._in_use import InUse
used = InUse(Path(sys.argv[1]))
print(flush=True)
input()
"""


def test_two_processes_use_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a [1].zarr"
    assert not in_use(folder)
    here = InUse(folder)
    with subprocess.Popen(
        [sys.executable, "-c", USES, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert in_use(folder)
        assert not in_use(tmp_path / "a 1.zarr")
        del here
        assert in_use(folder)
        assert len(list(tmp_path.iterdir())) == 1
        child.kill()
    assert list(tmp_path.iterdir())
    assert not in_use(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks in another way")
def test_a_drive_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "told by the drive")

    monkeypatch.setattr("fcntl.flock", none)
    here = InUse(tmp_path / "a.zarr")
    assert in_use(tmp_path / "a.zarr")
    del here
    assert not in_use(tmp_path / "a.zarr")
