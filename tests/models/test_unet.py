"""The U-Nets: DTU's size to the weight, any timm trunk, ImageNet weights that fit."""

import pytest
import torch
from safetensors.torch import save_file

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import Sam2Config, TimmConfig
from napari_pathsam.models.task_config import UNetConfig
from napari_pathsam.models.task_file import (
    on_trunk_of,
    start_from_imagenet,
    start_from_promptable,
)
from napari_pathsam.models.task_model import TaskModel, build_network
from napari_pathsam.models.task_recipes import find_task_recipe
from napari_pathsam.models.unet import UNet

GLAND = ClassTable.of("gland")
SMALL = (16, 8, 8, 4, 4)


def weights(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("profile", ["paper", "repo"])
def test_dtus_has_as_many_weights_as_published(profile):
    config = find_task_recipe("unet").config(profile)
    with torch.device("meta"):
        network = build_network(config, n_classes=1)
    assert weights(network) == 31_031_745
    kinds = {type(m).__name__ for m in network.modules()}
    assert not {"BatchNorm2d", "Dropout", "GroupNorm"} & kinds


def test_norm_and_width_are_configured():
    with torch.device("meta"):
        plain, batch, group = (
            UNet(UNetConfig(width=12, levels=3, norm=norm), 2)
            for norm in ("none", "batch", "group")
        )
    convolutions = [m for m in plain.modules() if isinstance(m, torch.nn.Conv2d)]
    normed = sum(m.out_channels for m in convolutions[:-1])  # all but the head
    assert weights(batch) == weights(group) == weights(plain) + 2 * normed
    groups = {m.num_groups for m in group.modules() if isinstance(m, torch.nn.GroupNorm)}
    assert groups == {4, 8}


def test_it_sees_far_and_in_detail():
    """A changed pixel is felt at its place most, and through the bottleneck far away."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(width=4, levels=4, norm="none"), 1).eval()
    image = torch.rand(1, 3, 64, 64)
    changed = image.clone()
    changed[..., 32, 32] += 1
    with torch.no_grad():
        change = (network(changed)[0] - network(image)[0]).abs()[0, 0]
    assert change[28:37, 28:37].mean() > 4 * change.mean()
    assert change[:, :14].max() > 0


def test_a_trunk_starts_from_timms_weights_and_from_no_others(tmp_path):
    import timm

    config = find_task_recipe("unet-timm+mobilenetv2_035").config(
        mpp=0.5, network={"decoder_widths": SMALL}
    )
    model = TaskModel(config, GLAND)
    published = timm.create_model("mobilenetv2_035", num_classes=7).state_dict()
    path = tmp_path / "trunk.safetensors"
    save_file(published, path)
    start_from_imagenet(model, path)
    assert torch.equal(model.network.trunk.model.conv_stem.weight, published["conv_stem.weight"])
    before = {n: t.clone() for n, t in model.state_dict().items()}
    save_file(timm.create_model("mobilenetv2_050").state_dict(), path)
    with pytest.raises(BadWeightsError, match="does not fit the trunk"):
        start_from_imagenet(model, path)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    with pytest.raises(UnavailableError, match="no file"):
        start_from_imagenet(model, tmp_path / "gone.safetensors")
    frozen = TaskModel(
        find_task_recipe("unet-timm+mobilenetv2_035").config(
            mpp=0.5,
            network={"decoder_widths": SMALL, "padding": "same", "frozen_norm": True},
        ),
        GLAND,
    ).train()
    norms = {n for n, m in frozen.network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert not any(frozen.network.get_submodule(n).training for n in norms if "trunk" in n)
    assert all(frozen.network.get_submodule(n).training for n in norms if "trunk" not in n)
    convolutions = [type(m).__name__ for m in frozen.network.trunk.modules()]
    assert "Conv2dSame" in convolutions
    assert all(type(m).__name__ != "Conv2dSame" for m in model.network.modules())
    plain = TaskModel(find_task_recipe("unet").config(network={"width": 4}), GLAND)
    with pytest.raises(BadWeightsError, match="unet-timm has"):
        start_from_imagenet(plain, path)


def test_a_trunk_starts_from_that_of_a_promptable_model(tiny_model):
    def made(pad_type: str) -> Sam2:
        return Sam2(
            Sam2Config(
                name="made", trunk=TimmConfig(name="mobilenetv2_035", pad_type=pad_type), width=32,
                mlp_dim=32, field_px=64, pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.5, 0.5, 0.5),
            )
        ).eval()  # fmt: skip

    with torch.random.fork_rng(devices=[]):
        base, usual = made("same"), made("")
    plain = find_task_recipe("unet-timm+mobilenetv2_035").config(network={"decoder_widths": SMALL})
    config = on_trunk_of(plain, base)
    model = TaskModel(config, GLAND).train()
    start_from_promptable(model, base)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        seen = model.seen(model.encode_batch(pixels))[0]
        for mine, theirs in zip(
            model.network.trunk(seen)[-4:],
            base.image_encoder.trunk(base.normalise(pixels)),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    assert on_trunk_of(plain, usual).network.padding == "usual"
    with pytest.raises(BadWeightsError, match="tiny has mobilenetv2_050, and"):
        on_trunk_of(plain, tiny_model)
    with pytest.raises(BadWeightsError, match="unet-timm has"):
        on_trunk_of(find_task_recipe("unet").config(), base)


def test_names_that_timm_flattens_are_found(tmp_path):
    import timm

    config = find_task_recipe("unet-timm+convnext_atto").config(network={"decoder_widths": SMALL})
    model = TaskModel(config, GLAND)
    published = timm.create_model("convnext_atto").state_dict()
    save_file(published, tmp_path / "trunk.safetensors")
    start_from_imagenet(model, tmp_path / "trunk.safetensors")
    found = model.network.trunk.model.state_dict()["stages_0.blocks.0.conv_dw.weight"]
    assert torch.equal(found, published["stages.0.blocks.0.conv_dw.weight"])


def test_a_trunk_that_does_not_exist_is_said_so():
    config = find_task_recipe("unet-timm+resnet34000").config()
    with pytest.raises(UnavailableError, match="resnet34000"):
        TaskModel(config, GLAND)
    with pytest.raises(ValueError, match="pattern"):
        find_task_recipe("unet-timm+hf-hub:somebody/model").config()
