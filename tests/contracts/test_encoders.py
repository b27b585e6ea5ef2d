"""What every pathology encoder of the catalogue must do; with random weights and one block."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from napari_pathsam.models.encoder_files import _shapes, _skeleton
from napari_pathsam.models.encoders import (
    ENCODERS,
    EncoderSpec,
    PathologyEncoder,
    VitArgs,
    random_encoder,
)
from napari_pathsam.models.sources import HubFile, LocalFile

GRID = (16, 32)  # two windows side by side

# No vision transformer, and a vision transformer given the whole field: by specification.
OWN = [
    EncoderSpec(
        name="own-cnn",
        timm="resnet10t",
        vit=None,
        token_px=32,
        prefix_tokens=0,
        embed_dim=512,
        licence="mine",
        weights=LocalFile(path="own.safetensors"),
    ),
    EncoderSpec(
        name="own-vit",
        timm="vit_tiny_patch16_224",
        vit=VitArgs(depth=1),
        token_px=16,
        embed_dim=192,
        licence="mine",
        weights=LocalFile(path="own.safetensors"),
    ),
]


@pytest.fixture(params=[*ENCODERS.values(), *OWN], ids=lambda spec: spec.name, scope="module")
def encoder(request: pytest.FixtureRequest) -> PathologyEncoder:
    return random_encoder(request.param, depth=1)


def image(spec: EncoderSpec, grid: tuple[int, int] = GRID, seed: int = 0) -> torch.Tensor:
    size = (1, 3, grid[0] * spec.token_px, grid[1] * spec.token_px)
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def test_it_is_a_value_that_can_be_written_down(encoder):
    spec = encoder.spec
    assert EncoderSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.licence
    assert encoder.name == spec.name
    if spec.name in ENCODERS:
        assert spec.title
        assert spec.licence_url.startswith("https://")
        assert not spec.gated or isinstance(spec.weights, HubFile)
        assert spec.window_px == 16 * spec.token_px


@torch.no_grad()
def test_features_land_on_the_grid_at_any_image_size(encoder):
    features = encoder(image(encoder.spec, (5, 9)), GRID)
    assert features.shape == (1, encoder.spec.embed_dim, *GRID)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


@torch.no_grad()
def test_one_distinctive_cell_lights_up_the_matching_cell(encoder):
    px = encoder.spec.token_px
    flat = torch.full_like(image(encoder.spec), 0.7)
    unmarked = encoder(flat, GRID)
    for row, column in ((5, 20), (13, 2)):  # in the second window and in the first
        marked = flat.clone()
        marked[..., row * px : (row + 1) * px, column * px : (column + 1) * px] = 0.1
        change = (encoder(marked, GRID) - unmarked).norm(dim=1)[0]
        assert divmod(int(change.argmax()), GRID[1]) == (row, column)


@torch.no_grad()
def test_windows_are_encoded_each_by_itself(encoder):
    spec = encoder.spec
    if spec.window_px is None:
        pytest.skip("it is given the whole field")
    cells = spec.window_px // spec.token_px
    pixels = image(spec)
    whole = encoder(pixels, GRID)
    for column in range(0, GRID[1], cells):
        part = pixels[..., column * spec.token_px : (column + cells) * spec.token_px]
        alone = encoder(part, (cells, cells))
        torch.testing.assert_close(whole[..., column : column + cells], alone)


@torch.no_grad()
def test_pixels_are_normalised_as_the_specification_says(encoder):
    spec, pixels = encoder.spec, image(encoder.spec, (16, 16))
    seen = []
    hook = encoder.net.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    inner = encoder.net.forward_features
    encoder.net.forward_features = lambda given: seen.append(given) or inner(given)
    encoder(pixels, (16, 16))
    hook.remove()
    encoder.net.forward_features = inner
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    torch.testing.assert_close(seen[0], (pixels - mean) / std)


def test_it_stays_frozen_whatever_is_trained_around_it(encoder):
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize("spec", ENCODERS.values(), ids=ENCODERS)
def test_the_whole_network_is_as_large_as_the_published_file(spec):
    """Built in full on the meta device: names, and bytes at four a weight."""
    vit = spec.vit.model_copy(update={"img_size": spec.vit.img_size or 224})
    if spec.name.startswith("dinov2"):
        vit = spec.vit
    shapes = _shapes(_skeleton(spec.model_copy(update={"vit": vit})))
    blocks = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
    assert len(blocks) >= 12
    has_scale = any(name.endswith("ls1.gamma") for name in shapes)
    assert has_scale == (spec.name not in ("lunit-s16", "kaiko-s16", "kaiko-b16", "hipt-s16"))
    weights = sum(torch.Size(shape).numel() for shape in shapes.values())
    if spec.layout.key is None:  # HIPT's holds the student and the optimiser too
        assert spec.weights.size == pytest.approx(
            4 * weights, rel=3e-4 if has_exact(spec) else 2e-3
        )


def has_exact(spec: EncoderSpec) -> bool:
    return spec.weights.exact_size


@torch.no_grad()
def test_odd_grids_are_covered_by_windows_that_end_with_them():
    encoder = random_encoder(ENCODERS["lunit-s16"], depth=1)
    pixels = image(encoder.spec, (20, 37))
    whole = encoder(pixels, (20, 37))
    assert torch.isfinite(whole).all()
    last = encoder(pixels[..., -256:, -256:], (16, 16))
    torch.testing.assert_close(whole[..., -16:, -16:], last)
    small = encoder(pixels[..., :64, :96], (4, 6))  # smaller than a window: the field is one
    assert small.shape[-2:] == (4, 6)
    many = encoder(functional.interpolate(pixels, (1024, 1024)), (64, 64))
    assert many.shape == (1, 384, 64, 64)
