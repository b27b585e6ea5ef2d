"""The embedding cache: hit and miss agree to the bit, limits hold, torn files are passed over."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from zarr.storage import ZipStore

from napari_pathsam.inference.embedding_cache import EmbeddingCache, embedding_of, model_identity
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.sam2 import Sam2


def tensors(embedding: ImageEmbedding) -> list[torch.Tensor]:
    own = [embedding.image_embed, *embedding.high_res, *embedding.trunk]
    own += [] if embedding.pathology is None else [embedding.pathology]
    return own + [t for level in embedding.coarser for t in tensors(level)]


def same(a: ImageEmbedding, b: ImageEmbedding) -> bool:
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    facts = [(e.shape_yx, e.input_yx, e.model, e.mpp, len(e.coarser)) for e in (a, b)]
    return facts[0] == facts[1] and all(torch.equal(x, y) for x, y in pairs)


def made(seed: int = 0, mpp: float | None = 0.5) -> ImageEmbedding:
    """As a model makes one: any values, some of them views of larger tensors."""
    g = torch.Generator().manual_seed(seed)
    large = torch.randn(2, 16, 8, 8, generator=g)
    level = ImageEmbedding(
        image_embed=large[:1],
        high_res=(torch.randn(1, 2, 32, 32, generator=g), torch.randn(1, 4, 16, 16, generator=g)),
        trunk=(torch.randn(1, 3, 32, 32, generator=g),),
        shape_yx=(120, 128),
        input_yx=(128, 128),
        model="tiny",
        mpp=mpp,
        pathology=torch.randn(1, 5, 8, 8, generator=g) * 100,
    )
    return replace(level, coarser=(replace(level, pathology=None, input_yx=(64, 64)),))


class Counting:
    """Makes an embedding and counts how often."""

    def __init__(self, make: Callable[[], ImageEmbedding] = made) -> None:
        self.calls, self._make = 0, make

    def __call__(self) -> ImageEmbedding:
        self.calls += 1
        return self._make()


def test_hit_and_miss_agree_in_memory_and_on_disk(tmp_path: Path) -> None:
    encode = Counting()
    first = EmbeddingCache(disk=tmp_path)
    missed, hit = first.get_or_encode("a", encode), first.get_or_encode("a", encode)
    read = EmbeddingCache(disk=tmp_path).get_or_encode("a", encode)
    alone = EmbeddingCache(memory_bytes=0).get_or_encode("a", made)
    assert encode.calls == 1
    assert same(missed, hit)
    assert same(missed, read)
    assert same(missed, alone)
    for tensor, exact in zip(tensors(read), tensors(made()), strict=True):
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, exact.half().float())
        assert tensor.is_contiguous()


def test_single_precision_and_values_beyond_half_are_exact(tmp_path: Path) -> None:
    huge = replace(made(), trunk=(torch.full((1, 1, 4, 4), 1e6),))
    cache = EmbeddingCache(memory_bytes=0, disk=tmp_path)
    for _ in range(2):
        assert same(cache.get_or_encode("a", made, precision="single"), made())
        assert float(cache.get_or_encode("b", lambda: huge).trunk[0].max()) == 1e6


def test_only_what_is_wanted_is_kept(tmp_path: Path) -> None:
    encode = Counting()
    cache = EmbeddingCache(disk=tmp_path)
    for _ in range(2):
        few = cache.get_or_encode("a", encode, keep=frozenset({"trunk"}))
        assert (few.image_embed.shape, few.high_res, few.pathology) == ((1, 0, 8, 8), (), None)
        assert few.coarser == ()
    small = cache.disk_nbytes
    assert encode.calls == 1
    assert cache.has("a", keep=frozenset({"trunk"}))
    assert not cache.has("a", keep=frozenset({"pathology"}))
    full = cache.get_or_encode("a", encode)
    assert encode.calls == 2
    assert torch.equal(full.trunk[0], few.trunk[0])
    assert cache.disk_nbytes > 2 * small
    again = cache.get_or_encode("a", encode, keep=frozenset({"trunk", "image_embed"}))
    assert encode.calls == 2
    assert torch.equal(again.image_embed, full.image_embed)
    with pytest.raises(ValueError, match="mask"):
        cache.get_or_encode("a", encode, keep=frozenset({"mask"}))


def test_what_was_used_last_stays_in_memory() -> None:
    size = made().nbytes // 2
    cache = EmbeddingCache(memory_bytes=int(2.5 * size))
    for name in ("a", "b", "a", "c"):
        cache.get_or_encode(name, made)
    assert cache.nbytes <= 2.5 * size
    assert [cache.has(name) for name in "abc"] == [True, False, True]


def test_a_full_folder_is_not_listed_for_every_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmbeddingCache(0, tmp_path / "one").get_or_encode("a", made)
    size = EmbeddingCache(0, tmp_path / "one").disk_nbytes
    cache = EmbeddingCache(0, tmp_path / "many", 200 * size)
    listed = []
    files = cache._files
    monkeypatch.setattr(cache, "_files", lambda: listed.append(1) or files())
    for n in range(230):
        cache.get_or_encode(str(n), lambda n=n: made(n))
        assert cache._unlisted <= 100 * size
    assert len(listed) < 25
    assert 190 * size < cache.disk_nbytes <= 201 * size


def test_the_disk_has_a_limit_and_forgets_what_was_not_used(tmp_path: Path) -> None:
    EmbeddingCache(0, tmp_path / "one").get_or_encode("a", made)
    size = EmbeddingCache(0, tmp_path / "one").disk_nbytes
    cache = EmbeddingCache(0, tmp_path / "few", int(3.5 * size))
    for age, name in enumerate("abc"):
        cache.get_or_encode(name, made)
        path = next(p for p in (tmp_path / "few").iterdir() if p.name.startswith(name))
        os.utime(path, (1e9 + age, 1e9 + age))
    cache.get_or_encode("a", Counting())  # used: now the newest
    cache.get_or_encode("d", made)
    assert [cache.has(name) for name in "abcd"] == [True, False, True, True]
    assert cache.disk_nbytes <= 3.5 * size
    cache.clear()
    assert cache.disk_nbytes == 0


@pytest.mark.parametrize("harm", ["torn", "flipped", "empty", "foreign", "another"])
def test_a_file_that_is_not_right_is_passed_over(tmp_path: Path, harm: str) -> None:
    cache = EmbeddingCache(0, tmp_path)
    right = cache.get_or_encode("a", made)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    other = EmbeddingCache(0, tmp_path / "other")
    other.get_or_encode("b", lambda: made(1))
    harmed = {
        "torn": content[: len(content) // 2],
        "flipped": content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
        "empty": b"",
        "foreign": b"PK\3\4" * 100,
        "another": next((tmp_path / "other").iterdir()).read_bytes(),
    }[harm]
    path.write_bytes(harmed)
    encode = Counting()
    assert same(EmbeddingCache(0, tmp_path).get_or_encode("a", encode), right)
    assert encode.calls == 1
    assert same(EmbeddingCache(0, tmp_path).get_or_encode("a", encode), right)
    assert encode.calls == 1


@pytest.mark.filterwarnings("ignore:Object at:UserWarning")  # names that zarr does not know
def test_no_byte_of_a_file_can_turn_without_being_noticed(tmp_path: Path) -> None:
    right = EmbeddingCache(0, tmp_path).get_or_encode("a", made)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    # The zip's own directory at its end has no checksum: more of it than of what comes before.
    start = content.index(b"PK\1\2")
    for at in [*range(0, start, start // 12), *range(start, len(content), 37)]:
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        assert same(EmbeddingCache(0, tmp_path).get_or_encode("a", made), right), at


def test_a_file_is_a_zarr_that_others_can_open(tmp_path: Path) -> None:
    right = EmbeddingCache(0, tmp_path).get_or_encode("a", made)
    (path,) = tmp_path.iterdir()
    with ZipStore(path, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        assert np.array_equal(group["0.image_embed"][...], right.image_embed.numpy())  # type: ignore[index]
        assert group["1.trunk.0"].dtype == np.float16  # type: ignore[union-attr]


def test_a_folder_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(disk=tmp_path / "file" / "cache")
    assert same(cache.get_or_encode("a", made), EmbeddingCache().get_or_encode("a", made))


def test_two_threads_make_it_once(tmp_path: Path) -> None:
    both = threading.Barrier(2)
    encode = Counting()
    cache = EmbeddingCache(disk=tmp_path)
    found: list[ImageEmbedding] = []

    def ask() -> None:
        both.wait()
        found.append(cache.get_or_encode("a", encode))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert encode.calls == 1
    assert same(*found)
    assert not cache._busy


def test_two_viewers_share_a_folder_that_is_full(tmp_path: Path) -> None:
    EmbeddingCache(0, tmp_path / "one").get_or_encode("a", made)
    size = EmbeddingCache(0, tmp_path / "one").disk_nbytes
    right = [EmbeddingCache(0).get_or_encode("a", partial(made, i)) for i in range(6)]
    wrong: list[object] = []

    def work(seed: int) -> None:
        cache, rng = (
            EmbeddingCache(0, tmp_path / "both", int(2.5 * size)),
            np.random.default_rng(seed),
        )
        for i in rng.integers(0, 6, 30):
            try:
                found = cache.get_or_encode(str(i), partial(made, int(i)))
                wrong.extend([] if same(found, right[i]) else [i])
            except Exception as error:  # noqa: BLE001  a thread's errors are the test's
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert EmbeddingCache(0, tmp_path / "both").disk_nbytes <= 3.5 * size


def test_the_key_follows_pixels_weights_and_settings(
    tiny_model: Sam2, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (8, 6, 3), np.uint8)
    identity = model_identity(tiny_model)
    key = EmbeddingCache.key(image, identity, {"input_yx": [64, 64]})
    assert key == EmbeddingCache.key(image.copy(), identity, {"input_yx": (64, 64)})
    changed = image.copy()
    changed[3, 3, 1] ^= 1
    others = {
        EmbeddingCache.key(changed, identity, {"input_yx": [64, 64]}),
        EmbeddingCache.key(image.reshape(6, 8, 3), identity, {"input_yx": [64, 64]}),
        EmbeddingCache.key(image, identity, {"input_yx": [64, 96]}),
        EmbeddingCache.key(image, identity + "0", {"input_yx": [64, 64]}),
    }
    assert key not in others
    assert len(others) == 4


def test_a_changed_weight_is_another_model(tiny_model: Sam2) -> None:
    before = model_identity(tiny_model)
    assert model_identity(tiny_model) == before
    weights = tiny_model.state_dict()
    unused, used = weights["sam_mask_decoder.iou_token.weight"], weights["no_mem_embed"]
    try:
        unused += 1
        assert model_identity(tiny_model) == before
        used += 1
        assert model_identity(tiny_model) != before
    finally:
        unused -= 1
        used -= 1
    assert model_identity(tiny_model) == before


def test_all_who_ask_share_an_embedding(
    tiny_model: Sam2, tiny_pathsam: PathSam, rng: np.random.Generator, tmp_path: Path
) -> None:
    image = rng.integers(0, 256, (64, 96, 3), np.uint8)
    cache = EmbeddingCache(disk=tmp_path)
    by_prompts, made = embedding_of(tiny_model, image, mpp=0.3, cache=cache)
    assert made
    by_classes, made = embedding_of(tiny_pathsam, image, mpp=0.5, cache=cache)
    assert not made
    assert by_classes.mpp == 0.5
    assert same(by_prompts, replace(by_classes, mpp=0.3))
    later, made = embedding_of(tiny_model, image, mpp=0.3, cache=EmbeddingCache(disk=tmp_path))
    assert not made
    uncached, made = embedding_of(tiny_model, image, mpp=0.3)
    assert made
    assert same(later, by_prompts)
    assert same(uncached, by_prompts)  # rounded, kept or not
    assert not same(tiny_model.encode(image, mpp=0.3), by_prompts)
