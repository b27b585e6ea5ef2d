"""ENCODERS: the published pathology encoders, each with its file, checksum, terms and pixels.

Sizes with ``exact_size`` and checksums are the published ones; a size without follows from the
number of weights, and a missing checksum is recorded at the first download. ``mpp`` is the pixel
size the authors name, or train at mostly; None where they name none.
"""

from __future__ import annotations

from typing import Any

from napari_pathsam.models.encoder_spec import EncoderSpec, Layout, VitArgs
from napari_pathsam.models.sources import HubFile, Url

HALF = (0.5, 0.5, 0.5)
BIOPTIMUS: dict[str, Any] = {
    "mean": (0.707223, 0.578729, 0.703617),
    "std": (0.211883, 0.230117, 0.177517),
}
HIBOU: dict[str, Any] = {"mean": (0.7068, 0.5755, 0.722), "std": (0.195, 0.2316, 0.1816)}
LUNIT: dict[str, Any] = {
    "mean": (0.70322989, 0.53606487, 0.66096631),
    "std": (0.21716536, 0.26081574, 0.20723464),
}
NO_DERIVATIVES: dict[str, Any] = {
    "licence": "CC-BY-NC-ND-4.0",
    "licence_url": "https://creativecommons.org/licenses/by-nc-nd/4.0/",
    "gated": True,
}
APACHE: dict[str, Any] = {
    "licence": "Apache-2.0",
    "licence_url": "https://www.apache.org/licenses/LICENSE-2.0",
}
KAIKO_RELEASE = "https://github.com/kaiko-ai/towards_large_pathology_fms"
KAIKO: dict[str, Any] = {
    "licence": "Kaiko Non-Commercial Public License",
    "licence_url": f"{KAIKO_RELEASE}/blob/main/LICENSE",
    "mean": HALF,
    "std": HALF,
}
HIPT = "mahmoodlab/HIPT"
HIPT_COMMIT = "780fafaed2e5b112bc1ed6e78852af1fe6714342"

# Windows are of 16 × 16 tokens, 224 or 256 pixels: what the encoders were trained on.
P14: dict[str, Any] = {"token_px": 14, "window_px": 224}
P16: dict[str, Any] = {"token_px": 16, "window_px": 256}
SWIGLU: dict[str, Any] = {"mlp": "swiglu", "act": "silu", "init_values": 1e-5}
TRANSFORMERS = Layout(names="transformers", left_out=("embeddings.mask_token",))

ENCODERS: dict[str, EncoderSpec] = {
    spec.name: spec
    for spec in (
        EncoderSpec(
            name="dinov2-s",
            title="DINOv2 ViT-S/14 with registers (natural images)",
            timm="vit_small_patch14_reg4_dinov2",
            prefix_tokens=5,
            embed_dim=384,
            **P14,
            **APACHE,
            weights=HubFile(
                repo="timm/vit_small_patch14_reg4_dinov2.lvd142m",
                file="model.safetensors",
                size=88_230_000,
                exact_size=False,
            ),
        ),
        EncoderSpec(
            name="dinov2-b",
            title="DINOv2 ViT-B/14 with registers (natural images)",
            timm="vit_base_patch14_reg4_dinov2",
            prefix_tokens=5,
            embed_dim=768,
            **P14,
            **APACHE,
            weights=HubFile(
                repo="timm/vit_base_patch14_reg4_dinov2.lvd142m",
                file="model.safetensors",
                size=346_350_000,
                exact_size=False,
            ),
        ),
        EncoderSpec(
            name="uni",
            title="UNI, ViT-L/16",
            timm="vit_large_patch16_224",
            vit=VitArgs(init_values=1e-5),
            embed_dim=1024,
            mpp=0.5,
            **P16,
            **NO_DERIVATIVES,
            weights=HubFile(
                repo="MahmoodLab/UNI",
                file="pytorch_model.bin",
                revision="b55a5ec6cade1a39edfe6534189a9b8ca7a022f0",
                sha256="56ef09b44a25dc5c7eedc55551b3d47bcd17659a7a33837cf9abc9ec4e2ffb40",
                size=1_213_527_781,
            ),
        ),
        EncoderSpec(
            name="uni2-h",
            title="UNI2-h, ViT-H/14 with eight registers",
            timm="vit_giant_patch14_224",
            vit=VitArgs(
                embed_dim=1536,
                depth=24,
                num_heads=24,
                mlp_ratio=2.66667 * 2,
                reg_tokens=8,
                no_embed_class=True,
                **SWIGLU,
            ),
            prefix_tokens=9,
            embed_dim=1536,
            mpp=0.5,
            **P14,
            **NO_DERIVATIVES,
            weights=HubFile(
                repo="MahmoodLab/UNI2-h",
                file="pytorch_model.bin",
                revision="d517a8dd47902dd7c308b3c36f63bce47e7b9a43",
                sha256="6e077eda234bebc595868d918d3458d9dd32a050199b0ff04443b2f46a0a3b1e",
                size=2_725_669_217,
            ),
        ),
        EncoderSpec(
            name="h-optimus-0",
            title="H-optimus-0, ViT-g/14 with registers",
            timm="vit_giant_patch14_reg4_dinov2",
            vit=VitArgs(img_size=224),
            prefix_tokens=5,
            embed_dim=1536,
            mpp=0.5,
            gated=True,
            **P14,
            **BIOPTIMUS,
            **APACHE,
            weights=HubFile(
                repo="bioptimus/H-optimus-0",
                file="pytorch_model.bin",
                revision="b145cc1e6c6b30d3251aa8b1f844e6974188a743",
                sha256="bf47b8467403079798661601b6ab06533be789da48d3f8b510aaefe2fbc55cd3",
                size=4_539_305_018,
            ),
        ),
        EncoderSpec(
            name="h-optimus-1",
            title="H-optimus-1, ViT-g/14 with registers",
            timm="vit_giant_patch14_reg4_dinov2",
            vit=VitArgs(img_size=224),
            prefix_tokens=5,
            embed_dim=1536,
            mpp=0.5,
            **P14,
            **BIOPTIMUS,
            **NO_DERIVATIVES,
            weights=HubFile(
                repo="bioptimus/H-optimus-1",
                file="model.safetensors",
                revision="3592cb220dec7a150c5d7813fb56e68bd57473b9",
                sha256="c4f1e5b457ddf00679626053b0bf2899be6a19c3a04ad191c87ad1cdfd1abfe1",
                size=4_539_151_464,
            ),
        ),
        EncoderSpec(
            name="h0-mini",
            title="H0-mini, ViT-B/14 with registers, distilled from H-optimus-0",
            timm="vit_base_patch14_reg4_dinov2",
            vit=VitArgs(img_size=224, mlp_ratio=5.33334, **SWIGLU),
            prefix_tokens=5,
            embed_dim=768,
            mpp=0.5,
            **P14,
            **BIOPTIMUS,
            **NO_DERIVATIVES,
            weights=HubFile(
                repo="bioptimus/H0-mini",
                file="model.safetensors",
                revision="5b5cc0505d19ae558270045eb0df8c34df4d9609",
                sha256="5e4de45a6527a8160f7c21fe3105c987757efe30ce581e1f2cf5809476069ade",
                size=342_974_184,
            ),
        ),
        EncoderSpec(
            name="virchow2",
            title="Virchow2, ViT-H/14 with registers",
            timm="vit_huge_patch14_224",
            vit=VitArgs(mlp_ratio=5.3375, reg_tokens=4, **SWIGLU),
            prefix_tokens=5,
            embed_dim=1280,
            mpp=0.5,
            **P14,
            **NO_DERIVATIVES,
            weights=HubFile(
                repo="paige-ai/Virchow2",
                file="model.safetensors",
                revision="3158645804b69e3f3bc4439d4116edddf0840a72",
                sha256="8d6cea947eb2418c3b0dff48cfb9b238e47744ab0dfca21b2b0637b140769b4b",
                size=2_525_001_112,
            ),
        ),
        EncoderSpec(
            name="prov-gigapath",
            title="Prov-GigaPath's tile encoder, ViT-g/16",
            timm="vit_giant_patch14_dinov2",
            vit=VitArgs(img_size=224, patch_size=16),
            embed_dim=1536,
            mpp=0.5,
            gated=True,
            **P16,
            **APACHE,
            weights=HubFile(
                repo="prov-gigapath/prov-gigapath",
                file="pytorch_model.bin",
                revision="eba85dd46097c3eedfcc2a3a9a930baecb6bcc19",
                sha256="877947214318afa9e011754b74bbc3894a1f480a253afc7bc8045b8321dedd63",
                size=4_540_023_137,
            ),
        ),
        EncoderSpec(
            name="phikon-v2",
            title="Phikon-v2, ViT-L/16",
            timm="vit_large_patch16_224",
            vit=VitArgs(init_values=1e-5),
            embed_dim=1024,
            mpp=0.5,
            **P16,
            licence="Owkin non-commercial",
            licence_url="https://huggingface.co/owkin/phikon-v2/blob/main/LICENSE.pdf",
            weights=HubFile(
                repo="owkin/phikon-v2",
                file="model.safetensors",
                revision="2ae989a9c40cffaa27f0a6cb29cc94d1d6f9a5fd",
                sha256="261ae680fa699b3b951597fd57aa19c02ef735805acb104b93af69b36d928569",
                size=1_213_400_000,
                exact_size=False,
            ),
            layout=TRANSFORMERS,
        ),
        EncoderSpec(
            name="hibou-b",
            title="Hibou-B, ViT-B/14 with registers",
            timm="vit_base_patch14_reg4_dinov2",
            vit=VitArgs(mlp_ratio=5.33334, **SWIGLU),
            prefix_tokens=5,
            embed_dim=768,
            gated=True,
            **P14,
            **HIBOU,
            **APACHE,
            weights=HubFile(
                repo="histai/hibou-b",
                file="model.safetensors",
                revision="7fdc8cce365ebfd9e7e60ee6ee9a8d4d59388f3c",
                sha256="2121db3cac83bc9abf13a458a37b0740e2ce725609ff8d4b8e6b6c56c30c3ab6",
                size=343_000_000,
                exact_size=False,
            ),
            layout=TRANSFORMERS,
        ),
        EncoderSpec(
            name="hibou-l",
            title="Hibou-L, ViT-L/14 with registers",
            timm="vit_large_patch14_reg4_dinov2",
            vit=VitArgs(mlp_ratio=5472 / 1024, **SWIGLU),
            prefix_tokens=5,
            embed_dim=1024,
            gated=True,
            **P14,
            **HIBOU,
            **APACHE,
            weights=HubFile(
                repo="histai/hibou-L",
                file="model.safetensors",
                revision="31a3b9fee16554c8552cb643d311733bce8faf7c",
                sha256="a63d1699448143ceccf2b7e1c4bf35b995c51f86ef8a6efb471af2eee210b79c",
                size=1_215_000_000,
                exact_size=False,
            ),
            layout=TRANSFORMERS,
        ),
        EncoderSpec(
            name="midnight-12k",
            title="Midnight-12k, ViT-g/14",
            timm="vit_giant_patch14_dinov2",
            embed_dim=1536,
            mean=HALF,
            std=HALF,
            mpp=0.5,
            **P14,
            licence="MIT",
            licence_url="https://huggingface.co/kaiko-ai/midnight",
            weights=HubFile(
                repo="kaiko-ai/midnight",
                file="model.safetensors",
                revision="adc6b15679c981cce6f9b018bbad09d16eeeda9f",
                sha256="52c14f20386ca17c2af8a7bf32c31c352668a8fbf6aefc88d86be6eaa0c72ca1",
                size=4_546_000_000,
                exact_size=False,
            ),
            layout=TRANSFORMERS,
        ),
        EncoderSpec(
            name="lunit-s16",
            title="Lunit DINO, ViT-S/16",
            timm="vit_small_patch16_224",
            embed_dim=384,
            mpp=0.5,
            **P16,
            **LUNIT,
            licence="Lunit Public License (non-commercial)",
            licence_url="https://github.com/lunit-io/benchmark-ssl-pathology/blob/main/LICENSE",
            weights=HubFile(
                repo="1aurent/vit_small_patch16_224.lunit_dino",
                file="model.safetensors",
                revision="9ed09909d93f9d39a092d8e49717ae48f9b44e6f",
                sha256="a19eb37d6cf038a7e8a34c7e9ec50698d02759b2f49dd799492f6ce7e4cb5937",
                size=86_680_000,
                exact_size=False,
            ),
        ),
        EncoderSpec(
            name="kaiko-s16",
            title="kaiko ViT-S/16",
            timm="vit_small_patch16_224",
            embed_dim=384,
            mpp=0.5,
            **P16,
            **KAIKO,
            weights=Url(
                url=f"{KAIKO_RELEASE}/releases/download/0.0.1/vits16.pth",
                sha256=None,
                size=86_700_000,
                exact_size=False,
            ),
        ),
        EncoderSpec(
            name="kaiko-b16",
            title="kaiko ViT-B/16",
            timm="vit_base_patch16_224",
            embed_dim=768,
            mpp=0.5,
            **P16,
            **KAIKO,
            weights=Url(
                url=f"{KAIKO_RELEASE}/releases/download/0.0.1/vitb16.pth",
                sha256=None,
                size=343_250_000,
                exact_size=False,
            ),
        ),
        EncoderSpec(
            name="hipt-s16",
            title="HIPT's ViT-S/16 for 256-pixel regions",
            timm="vit_small_patch16_224",
            embed_dim=384,
            mean=HALF,
            std=HALF,
            mpp=0.5,
            **P16,
            licence="Apache-2.0 with Commons Clause",
            licence_url=f"https://github.com/{HIPT}/blob/master/LICENSE.md",
            weights=Url(
                url=f"https://media.githubusercontent.com/media/{HIPT}/{HIPT_COMMIT}"
                "/HIPT_4K/Checkpoints/vit256_small_dino.pth",
                sha256="6960cd5a8657dc8bb214671aa0c6dbd3f5b698e84386884955836487ddc89e24",
                size=704_238_867,
            ),
            layout=Layout(key="teacher", strip=("module.", "backbone."), left_out=("head.",)),
        ),
    )
}
