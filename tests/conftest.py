"""Fixtures for every test: nothing of the user's is touched, and pixels come from a seed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_pathsam.core.classes import ClassTable

if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each worker, before torch counts them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from napari_pathsam.models.pathsam import PathSam
    from napari_pathsam.models.sam2 import Sam2


@pytest.fixture(autouse=True)
def _one_core() -> None:
    """What a test before left torch at; two workers of two threads each crawl on two cores."""
    torch = sys.modules.get("torch")
    if torch is not None and os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Settings and caches of this run. napari writes its icons where the cache is when it is
    imported, which may be with the first test file, and looks for them where it is later.
    """
    home, patch = Path(tempfile.mkdtemp(prefix="pathsam-tests-")), pytest.MonkeyPatch()
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA"):
        patch.setenv(name, str(home / name.lower()))
    patch.setenv("NAPARI_CONFIG", str(home / "napari.yaml"))
    config.add_cleanup(patch.undo)
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a display Qt aborts the whole process; say so before it does."""
    wanted = [item for item in items if item.get_closest_marker("gui")]
    if not wanted or not sys.platform.startswith("linux"):
        return
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    xvfb = shutil.which("Xvfb") and config.pluginmanager.hasplugin("xvfb")
    if not (display or xvfb):
        pytest.exit(
            f"{len(wanted)} GUI tests need a display: install xvfb (Debian: apt-get install xvfb) "
            "and pytest-xvfb, or leave them out with: pytest -m 'not gui'",
            returncode=4,
        )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """``-m alone`` may find nothing where some tests were asked for by name."""
    none = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
    if none and session.config.option.markexpr == "alone":
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(autouse=True)
def _own_data(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals of a test stay in its own folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))


@pytest.fixture
def pathsam(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command; gives exit status, stdout, and stderr in one line."""
    from napari_pathsam.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        said = capsys.readouterr()
        status = int(left.value.code or 0)
        assert "Traceback" not in said.err
        if status == 1:
            why = said.err.strip()
            assert why, "work that fails says why"
            assert "\n\n" not in why or "Stopped" in why, "in one paragraph"
        return status, said.out, " ".join(said.err.split())

    return run


@pytest.fixture(scope="session")
def layouts() -> ModuleType:
    """Small copies of the data sets' official layouts: ``datasets/layouts.py``."""
    return _helpers("datasets/layouts.py")


@pytest.fixture(scope="session")
def slide_files() -> ModuleType:
    """Writers of one small slide in every format: ``contracts/slide_files.py``."""
    module = _helpers("contracts/slide_files.py")
    mirax = _helpers("contracts/mirax_files.py")
    module.mirax_files = mirax  # type: ignore[attr-defined]
    module.mirax = lambda folder: mirax.write(folder, module.canvas((768, 512)))  # type: ignore[attr-defined]
    return module


@pytest.fixture(scope="session")
def large_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse pyramid of 80,000 × 100,000 pixels: ``contracts/large_slide.py``."""
    folder: Path = tmp_path_factory.mktemp("large")
    found: Path = _helpers("contracts/large_slide.py").write(folder / "large.tif")
    return found


def _helpers(file: str) -> ModuleType:
    """A module beside the tests, which no test can import by name."""
    path = Path(__file__).parent / file
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path, layouts: ModuleType) -> Any:
    return layouts.Folder(tmp_path)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def class_table() -> ClassTable:
    return ClassTable.of("gland", "stroma")


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The source tree these tests belong to."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data(project_root: Path) -> Path:
    """Real histology that lies beside the checkout where the project is built; skips without it."""
    folder = project_root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real images (../shared/data) are not here")
    return folder


@pytest.fixture(scope="session")
def tiny_model() -> Sam2:
    """A real SAM 2 with random weights, 64 to 128 pixels; every mask covers a part of the image.

    It knows nothing of objects: use it for what does not depend on the mask being right.
    """
    import torch

    from napari_pathsam.models.sam2 import Sam2
    from napari_pathsam.models.sam2_config import Sam2Config, TimmConfig

    config = Sam2Config(
        name="tiny", trunk=TimmConfig(name="mobilenetv2_050"), width=64, mlp_dim=64,
        iou_hidden_dim=32, field_px=128, fixed_canvas=False, smallest_px=64, object_score=False,
        mpp_range=(0.2, 2.0),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Sam2(config).eval()
    _spread_masks(model)
    return model


@pytest.fixture
def tiny_pathsam(tiny_model: Sam2, class_table: ClassTable) -> PathSam:
    """``tiny_model`` with untrained classes, gland and stroma, at 0.5 µm; one of its own each time.

    Its class maps hold all three channels and mean nothing.
    """
    from copy import deepcopy

    import torch

    from napari_pathsam.models.pathsam import PathSam
    from napari_pathsam.models.pathsam_config import profiled

    config = profiled("recommended", name="tiny:made", base="tiny", mpp=0.5, hidden=(16,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PathSam(config, deepcopy(tiny_model), class_table).eval()


def _spread_masks(model: Sam2) -> None:
    """Scale a random decoder so that its logits cross zero inside most images, within about ±8.

    A mask is a weighted sum of feature maps; taking the maps' means out of the weights centres it.
    """
    import torch

    decoder = model.sam_mask_decoder
    maps: list[torch.Tensor] = []
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    images = [coarse.repeat(8, 0).repeat(8, 1), np.full((128, 128, 3), 128, np.uint8)]

    def logits(image: np.ndarray) -> torch.Tensor:
        embed, high_res, _ = model.encode_pixels(model.prepare(image))
        point = torch.tensor([[[60.0, 60.0]]])
        return model.decode_tensors(embed, high_res, point, torch.ones(1, 1), None)[0][0]

    with torch.no_grad():
        decoder.conv_s0.weight *= 3  # the fine structure comes from the image
        hook = decoder.output_upscaling[4].register_forward_hook(lambda m, i, o: maps.append(o))
        for image in images:
            logits(image)
        hook.remove()
        means, _ = torch.linalg.qr(torch.stack([m[0].mean((1, 2)) for m in maps], 1))
        across = torch.eye(len(means)) - means @ means.T
        last = [mlp.layers[-1] for mlp in decoder.output_hypernetworks_mlps]
        for linear in last:
            linear.weight.copy_(across @ linear.weight)
            linear.bias.copy_(across @ linear.bias)
        for linear, mask in zip(last, logits(images[0]), strict=True):
            linear.weight *= 2 / mask.std()
            linear.bias *= 2 / mask.std()
