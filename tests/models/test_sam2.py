"""Sam2: any image, any prompt; the same numbers whichever way they are computed."""

from dataclasses import replace

import numpy as np
import pytest

from napari_pathsam.core.errors import BadImageError, BadPromptError, BadWeightsError
from napari_pathsam.core.prompts import Prompts


@pytest.mark.parametrize("shape", [(128, 128), (90, 128), (64, 100), (300, 200), (20, 20)])
def test_the_tiny_model_draws_masks_that_are_neither_empty_nor_full(tiny_model, rng, shape):
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    image[: shape[0] // 2] //= 2
    embedding = tiny_model.encode(image)
    for y, x in ((0.2, 0.3), (0.7, 0.8)):
        answer = tiny_model.decode_prompts(
            embedding, Prompts(points_yx=((y * shape[0], x * shape[1]),), positive=(True,))
        )
        for i in range(len(answer.low_res_logits)):
            assert 0.05 < answer.mask_at(i).mean() < 0.95
        assert answer.mask.shape == shape
        assert 1 < np.abs(answer.low_res_logits).max() < 30


def test_logits_are_the_same_whether_a_part_or_the_whole_is_asked_for(tiny_model, rng):
    image = rng.integers(0, 256, (90, 128, 3), np.uint8)
    embedding = tiny_model.encode(image)
    answer = tiny_model.decode_prompts(embedding, Prompts(box=(20, 20, 60, 60)))
    whole = answer.logits_at(0)
    part = answer.logits_at(0, (30, 50), window_yx=(10, 40, 40, 90))
    np.testing.assert_allclose(part, whole[10:40, 40:90], atol=1e-4)
    finer = answer.logits_at(0, (180, 256), window_yx=(0, 0, 90, 128))
    np.testing.assert_allclose(finer, answer.logits_at(0, (180, 256)), atol=1e-4)
    assert answer.logits_at(0, (45, 64)).shape == (45, 64)


def test_a_windowed_mask_is_the_whole_one_where_it_was_decoded(tiny_model, rng):
    image = rng.integers(0, 256, (100, 128, 3), np.uint8)
    embedding = tiny_model.encode(image)
    boxed = Prompts(box=(10, 10, 40, 40))
    window, whole = (tiny_model.decode_many(embedding, [boxed], whole=w)[0] for w in (False, True))
    for shape in (None, (50, 64), (333, 401)):
        part, full = window.logits_at(0, shape), whole.logits_at(0, shape)
        assert part.shape == full.shape
        y, x = part.shape[0] * 6 // 10, part.shape[1] * 6 // 10  # 3 of 6 and 3 of 8 cells, + 2
        np.testing.assert_allclose(part[:y, :x], full[:y, :x], atol=1e-4)
        assert (part[:, -1] < 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (3, 5), (33, 2000)])
def test_images_of_any_size_work(tiny_model, shape):
    image = np.zeros((*shape, 3), np.uint8)
    embedding = tiny_model.encode(image, mpp=0.5)
    prompts = Prompts(points_yx=((0, 0),), positive=(True,))
    answer = tiny_model.decode_prompts(embedding, prompts)
    assert answer.mask.shape == shape
    assert np.isfinite(answer.low_res_logits).all()
    boxed = Prompts(box=(-0.5, -0.5, 0.5, 0.5))  # smaller than a pixel
    assert tiny_model.decode_many(embedding, [boxed, prompts])[0].mask.shape == shape


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 3), np.float32),
    ],
)
def test_what_is_no_image_is_said(tiny_model, image):
    with pytest.raises(BadImageError, match="as_rgb"):
        tiny_model.encode(image)


def test_prompts_that_ask_for_nothing_are_said(tiny_model):
    embedding = tiny_model.encode(np.zeros((64, 64, 3), np.uint8))
    for prompts in (
        Prompts(points_yx=((64, 3),), positive=(True,)),
        Prompts(box=(70, 70, 80, 80)),
        Prompts(mask=np.zeros((3, 3), bool)),
        Prompts(),
    ):
        with pytest.raises(BadPromptError):
            tiny_model.decode_prompts(embedding, prompts)
        with pytest.raises(BadPromptError):
            tiny_model.decode_many(embedding, [prompts])
    with pytest.raises(BadPromptError, match="no area"):
        Prompts(box=(5, 5, 5, 9))


def test_an_embedding_of_another_model_is_refused(tiny_model):
    embedding = tiny_model.encode(np.zeros((64, 64, 3), np.uint8))
    foreign = replace(embedding, model="sam2.1-tiny")
    with pytest.raises(BadWeightsError, match="encode the image with the model"):
        tiny_model.decode_prompts(foreign, Prompts(points_yx=((3, 3),), positive=(True,)))
