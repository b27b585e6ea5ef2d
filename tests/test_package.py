"""What the package promises as a package: cheap to import, honest layers, complete when built."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points, metadata
from pathlib import Path

import pytest

import napari_pathsam

PACKAGE = Path(napari_pathsam.__file__).parent

# Importing any of these raises, as on a machine that does not have it.
BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked in this test")
sys.meta_path.insert(0, Blocked())
"""


def run(code: str, *blocked: str) -> str:
    code = f"BLOCKED = {blocked!r}\n{BLOCK}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_is_free():
    loaded = set(run("import sys, napari_pathsam; print(*sys.modules)").split())
    assert "napari_pathsam" in loaded
    assert not {"torch", "napari", "qtpy", "openslide", "numpy", "pydantic"} & loaded


def test_every_public_name_is_there_and_no_other():
    names = [name for name in napari_pathsam.__all__ if name != "__version__"]
    for name in names:
        assert getattr(napari_pathsam, name).__name__ == name
    assert set(names) <= set(dir(napari_pathsam))
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = napari_pathsam.no_such_thing


def test_the_names_for_type_checkers_are_the_names_at_run_time():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        (alias.name, node.module)
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {(n, f"napari_pathsam.{home}") for n, home in napari_pathsam._HOME.items()}


def modules(*folders: str) -> str:
    """Code that imports every module of these parts of the package, except the docks."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] in ("_napari", "__main__") or (folders and parts[0] not in folders):
            continue
        names.append(".".join(("napari_pathsam", *parts)).removesuffix(".__init__"))
    return "import importlib\n" + "".join(f"importlib.import_module({n!r})\n" for n in names)


def test_everything_outside_the_docks_works_without_napari_and_qt():
    run(modules(), "napari", "qtpy", "PyQt6", "PySide6", "magicgui", "superqt", "pyqtgraph")


def test_core_is_numpy_scipy_and_pydantic():
    run(modules("core"), "torch", "PIL", "zarr", "dask", "tifffile", "shapely", "psygnal")


def test_files_are_read_without_torch():
    run(modules("core", "io", "samples"), "torch", "torchvision", "timm", "sam2")


def test_the_manifest_is_valid_and_every_command_can_be_imported():
    command = [sys.executable, "-m", "npe2", "validate", "--imports", "napari-pathsam"]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_menu_of_the_manifest_is_one_napari_shows():
    from napari._app_model.constants import MenuId
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("napari-pathsam")
    ours = {submenu.id for submenu in manifest.contributions.submenus or ()}
    known = {str(menu.value) for menu in MenuId.contributables()} | ours
    assert set(manifest.contributions.menus or ()) <= known


def test_the_hub_finds_what_it_needs(project_root):
    about = metadata("napari-pathsam")
    assert about["License-Expression"] == "BSD-3-Clause"
    assert "Framework :: napari" in about.get_all("Classifier")
    assert [e.value for e in entry_points(group="napari.manifest", name="napari-pathsam")]
    readme = (project_root / "README.md").read_text("utf-8")
    assert readme.count("\n## ") >= 5
    pictures = [line for line in readme.splitlines() if line.startswith("![")]
    assert pictures
    assert all("](https://" in line for line in pictures)


def test_dependencies_have_lower_bounds_only_and_no_qt_binding(project_root):
    project = tomllib.loads((project_root / "pyproject.toml").read_text("utf-8"))["project"]
    for line in project["dependencies"]:
        assert ">=" in line
        assert not any(sign in line for sign in ("<", "==", "~=", ",")), line
        assert not re.match(r"(?i)pyqt\d|pyside|napari\[", line), line


def test_the_wheel_holds_what_is_needed_at_run_time(tmp_path, project_root):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    done = subprocess.run(
        [*command, str(project_root)], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = project_root / "src" / "napari_pathsam"
    for needed in ("samples/*", "weights/*", "napari.yaml", "py.typed"):
        for path in package.glob(needed):
            if path.is_file():
                assert f"napari_pathsam/{path.relative_to(package).as_posix()}" in names
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert not any(name.startswith(("tests", "docs", "benchmarks")) for name in names)
    assert wheel.stat().st_size < 16 * 2**20
