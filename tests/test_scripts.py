"""The two commands of the README say what is missing, and stop before they download anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="POSIX scripts")

NEEDED = ("sh", "dirname", "uname", "grep", "sort", "tr", "cut", "tail", "rm")


def stub(path: Path, lines: str) -> None:
    path.unlink(missing_ok=True)  # never write through a link to the real command
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)


@pytest.fixture
def bare(tmp_path: Path, project_root: Path) -> Path:
    """A copy of the scripts beside a folder ``bin``, the only one on the PATH: no Python in it."""
    shutil.copytree(project_root / "scripts", tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    for name in NEEDED:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    stub(tmp_path / "bin" / "id", "echo 1000")
    return tmp_path


def run(folder: Path, script: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["/bin/sh", f"scripts/{script}"],
        cwd=folder,
        env={"PATH": str(folder / "bin")},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_without_python_it_says_which_one_is_needed(bare):
    done = run(bare, "demo.sh")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (bare / ".venv").exists()


def test_without_venv_it_names_the_package_after_the_size_of_the_download(bare):
    real = sys.executable
    stub(bare / "bin" / "python3", f'case "$*" in *ensurepip*) exit 1;; esac\nexec "{real}" "$@"')
    done = run(bare, "demo.sh")
    assert done.returncode == 1
    assert "sudo apt-get install python3-venv" in done.stderr
    assert done.stderr.index("GB") < done.stderr.index("python3-venv")
    assert not (bare / ".venv").exists()


def test_without_rights_it_names_every_missing_display_package(bare):
    stub(bare / "bin" / "apt-get", "echo 'must not be called' >&2; exit 9")
    # Everything is there but xvfb and one library.
    stub(
        bare / "bin" / "dpkg-query",
        'case "$*" in *xvfb*|*xcb-cursor*) exit 1;; esac\necho "install ok installed"',
    )
    done = run(bare, "test.sh")
    assert done.returncode == 1
    assert "sudo apt-get install --no-install-recommends xvfb libxcb-cursor0\n" in done.stderr
    assert "must not be called" not in done.stderr


def test_root_gets_only_what_is_missing(bare):
    stub(bare / "bin" / "id", "echo 0")
    stub(bare / "bin" / "apt-get", 'echo "apt-get $*" >&2')
    stub(
        bare / "bin" / "dpkg-query",
        'case "$*" in *libglib*) exit 1;; esac\necho "install ok installed"',
    )
    done = run(bare, "test.sh")
    calls = [line for line in done.stderr.splitlines() if line.startswith("apt-get")]
    assert [call.split()[1] for call in calls] == ["update", "install"]
    assert calls[1].endswith("--no-install-recommends libglib2.0-0")
    assert "Python 3.11 or newer is needed" in done.stderr


def test_elsewhere_on_linux_it_asks_for_xvfb(bare):
    done = run(bare, "test.sh")
    assert done.returncode == 1
    assert "install Xvfb" in done.stderr
    assert "libxcb-cursor0" in done.stderr
