"""The ablation's bookkeeping: which images are learned from, what its figures are over."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from napari_pathsam.core.metrics import dice_per_class
from napari_pathsam.datasets import DATASETS, open_dataset
from napari_pathsam.training.class_recipe import read_class_recipe


@pytest.fixture(scope="module")
def ablation():
    pytest.importorskip("sklearn", reason="scikit-learn (the extra baselines) is not installed")
    file = Path(__file__).parents[2] / "benchmarks" / "ablation.py"
    spec = spec_from_file_location("ablation", file)
    module = sys.modules["ablation"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["ablation"]


def test_every_data_set_has_a_setting_and_a_recipe_that_see_alike(ablation):
    for name, study in ablation.STUDIES.items():
        recipe = read_class_recipe(f"unet-timm-{name}")
        assert recipe.network_config().mpp == study.config.mpp
        assert recipe.classes.names == DATASETS[name].classes == (study.class_name,)
        assert study.test == DATASETS[name].default_split
        assert study.training.data_seed == 0  # other seeds see the same patches


def test_a_part_of_the_images_is_whole_cases_and_always_the_same(ablation, folder, layouts):
    layouts.ebhi(folder)
    samples = open_dataset("ebhi-seg", folder.root, "all")
    some = ablation.some_of(samples, 7)
    assert 0 < len(some) <= 7
    cases = {s.group for s in some}
    assert len(some) == sum(s.group in cases for s in samples)
    assert some == ablation.some_of(samples, 7)
    assert ablation.some_of(samples, None) == samples


def test_figures_are_means_over_seeds_and_differences_are_paired(ablation, rng):
    groups = ["a", "a", "b", "c"]
    counts = rng.integers(10, 100, (2, 4, 4))
    better = counts.copy()
    better[..., 2] -= 5  # false negatives put right
    better[..., 3] += 5
    rows = [
        {"kind": kind, "seed": seed, "parameters": 1, "seconds": 1.0, "predict": 0.1,
         "counts": of[seed].tolist()}
        for kind, of in (("mlp", better), ("kan", counts)) for seed in (0, 1)
    ]  # fmt: skip
    mlp, kan = ablation.summary(rows, groups)
    by_seed = [dice_per_class(c.sum(0).reshape(2, 2))[1] for c in counts]
    assert kan["by seed"] == pytest.approx(by_seed)
    assert kan["dice"][0] == pytest.approx(np.mean(by_seed))
    assert kan["sd"] == pytest.approx(np.std(by_seed, ddof=1))
    assert "against" not in kan
    value, low, high = mlp["against"]
    assert value == pytest.approx(mlp["dice"][0] - kan["dice"][0])
    assert 0 < low <= value <= high
