import subprocess
import sys


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=False, timeout=120
    )


def test_torch_is_loaded_before_qt():
    done = run("""
import sys

class Order:
    seen = []
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "qtpy", "PyQt6", "PySide6", "napari"):
            self.seen.append(name)

sys.meta_path.insert(0, Order())
sys.argv = ["napari-pathsam", "--version"]
from napari_pathsam._napari.launcher import main
try:
    main()
except SystemExit:
    pass
print(*Order.seen)
""")
    order = done.stdout.split("\n")[-2].split()
    assert order[0] == "torch", done.stdout + done.stderr
    assert "napari" in order


def test_a_torch_that_cannot_be_loaded_is_explained():
    done = run("""
import sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise OSError("[WinError 1114] c10.dll")

sys.meta_path.insert(0, Broken())
from napari_pathsam._napari.launcher import main
sys.exit(main())
""")
    assert done.returncode == 1
    assert "c10.dll" in done.stderr
    assert "vc_redist" in done.stderr
    assert "Traceback" not in done.stderr
