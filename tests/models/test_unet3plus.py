"""U-Net3+ and its kin: published sizes, full-scale connections, and what SAM can say to them."""

from copy import deepcopy

import pytest
import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.models.gated_fusion import BlurPool, XGatedFusion, positions
from napari_pathsam.models.task_config import FusionConfig, TaskConfig, with_network
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe
from napari_pathsam.models.unet3plus import UNet3Plus

GLAND = ClassTable.of("gland")
GUIDED = find_task_recipe("guided-eunet3plus")


def weights(config: TaskConfig, channels: int, guide: int | None = None) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in UNet3Plus(config.network, channels, guide).parameters())


def test_as_many_weights_as_published():
    plain = with_network(find_task_recipe("unet3plus").config("paper"), deep_supervision=False)
    assert weights(plain, 1) == 26_971_777
    assert weights(find_task_recipe("eunet3plus").config("repo"), 2) == 11_466_626
    repo = GUIDED.config("repo")
    assert weights(repo, 2, 256) == 12_579_250
    # The released class builds the gates of its "advanced" option in any case: 13.04 M in all.
    gates = repo.network.fusion.model_copy(update={"level_gates": True})
    assert weights(with_network(repo, fusion=gates), 2, 256) == 13_042_783
    with torch.device("meta"):
        network = UNet3Plus(repo.network, 2, 256)
    assert sum(p.numel() for p in network.fusion.gate.parameters()) == 62_000


@pytest.mark.parametrize("level", range(4))
def test_every_stage_sees_every_level(level):
    torch.manual_seed(0)
    network = UNet3Plus(find_task_recipe("unet3plus").config(network={"width": 2}).network, 1)
    sources = [m[0].in_channels for m in network.stages[3 - level].reduce]
    assert sources == [2 * 2**n for n in range(level + 1)] + [10] * (3 - level) + [32]


def test_blurred_pooling_moves_with_the_image_more_than_plain_pooling():
    """What blurring is for: a shift by one pixel changes less (Zhang 2019)."""
    x = torch.rand(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    shifted = torch.roll(x, 1, -1)

    def change(pool: torch.nn.Module) -> float:
        a, b = pool(x)[..., 2:-2], pool(shifted)[..., 2:-2]
        return float((a - b).std() / a.std())

    assert change(BlurPool()) < change(torch.nn.MaxPool2d(2))
    flat = torch.full((1, 3, 8, 8), 0.7)
    torch.testing.assert_close(BlurPool()(flat), torch.full((1, 3, 4, 4), 0.7))


def guided(tiny_model, profile="recommended", **network) -> TaskModel:
    fields = {"width": 4, "deep_supervision": False, "dropout": 0.0} | network
    config = GUIDED.config(profile, guide="tiny", network=fields)
    torch.manual_seed(0)
    return TaskModel(config, GLAND, deepcopy(tiny_model)).eval()


@pytest.mark.parametrize("level_gates", [False, True])
@pytest.mark.parametrize("profile", ["recommended", "paper", "repo"])
def test_a_mirrored_embedding_changes_what_is_found_only_where_sam_is_attended_to(
    tiny_model, profile, level_gates
):
    """In the released code, and in the paper, SAM's spatial content never reaches the output."""
    model = guided(tiny_model, profile)
    fusion = model.config.network.fusion.model_copy(update={"level_gates": level_gates})
    model = guided(tiny_model, profile, fusion=fusion).double()
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(1, 3, 128, 128, generator=generator).double()
    sam = torch.randn(1, 64, 8, 8, generator=generator).double()
    with torch.no_grad():
        found = model.network(pixels, sam)[0]
        mirrored = model.network(pixels, sam.flip(-1))[0]
        other = model.network(pixels, 2 * sam + 1)[0]
    change, heard = (found - mirrored).abs().max(), (found - other).abs().max()
    assert heard > 1e-9
    if profile == "recommended":
        assert change > 0.1 * heard
        assert change > 1e-2 * found.std()
    elif level_gates:  # a mean over a transposed convolution feels what its border cuts off
        assert change < 0.2 * heard
    else:
        assert change < 1e-12


def test_each_place_looks_at_its_own_surroundings_first():
    torch.manual_seed(0)
    fusion = XGatedFusion(64, 16, FusionConfig(heads=1)).eval()
    queries = torch.zeros(1, 36, 64) + positions((6, 6), 64)
    with torch.no_grad():
        _, attention = fusion.attention(queries, queries, queries)
    assert (attention[0].argmax(dim=1) == torch.arange(36)).float().mean() > 0.8
    assert attention[0].diagonal().mean() > 3 / 36


def test_with_and_without_sam_is_one_switch(tiny_model):
    config = GUIDED.config(guide="tiny", network={"width": 4})
    without = config.model_copy(update={"guide": None})
    plain = find_task_recipe("eunet3plus").config(name=config.name, network={"width": 4})
    assert without == plain
    assert "fusion" not in dict(TaskModel(without, GLAND).network.named_children())
    with pytest.raises(BadWeightsError, match="made with SAM"):
        TaskModel(config, GLAND)
    with pytest.raises(ValueError, match="has no guide"):
        find_task_recipe("unet").config(guide="tiny")
    assert find_task_recipe("guided-eunet3plus+sam2.1-tiny").config("repo").guide == "sam2.1-tiny"


def test_the_guide_is_frozen_and_its_embedding_is_that_of_the_model_itself(tiny_model):
    model = guided(tiny_model).train()
    model.train_only(("network",))
    assert not any(p.requires_grad for p in model.base.parameters())
    assert not model.base.training
    pixels = torch.rand(2, 3, 64, 96)
    embedding = model.encode_batch(pixels)
    wanted = tiny_model.encode_pixels(tiny_model.normalise(pixels))[0]
    assert torch.equal(embedding.image_embed, wanted)
    assert not embedding.image_embed.requires_grad


def test_presence_empties_the_answer_and_only_in_use(tiny_model):
    config = find_task_recipe("unet3plus").config(
        network={"width": 2, "presence": True, "deep_supervision": False}
    )
    torch.manual_seed(0)
    model = TaskModel(config, GLAND).eval()
    embedding = model.encode_batch(torch.rand(2, 3, 64, 64))
    last = model.network.presence[1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([1.0, 0.0]))
        assert (model.outputs(embedding)[0][0].argmax(1) == 0).all()
        last.bias.copy_(torch.tensor([0.0, 1.0]))
        there = model.outputs(embedding)[0][0]
        assert (there.argmax(1) == 1).any()
        assert model.train().outputs(embedding)[1].shape == (2, 2)


def test_deep_supervision_trains_all_levels_and_costs_nothing_in_use():
    config = find_task_recipe("unet3plus").config(network={"width": 2})
    model = TaskModel(config, GLAND).train()
    embedding = model.encode_batch(torch.rand(2, 3, 64, 64))
    outputs, _ = model.outputs(embedding)
    assert [tuple(o.shape) for o in outputs] == [(2, 2, 64, 64)] * 5
    assert len(model.eval().outputs(embedding)[0]) == 1
