"""Sam2: any image, any prompt; the same numbers whichever way they are computed."""

import numpy as np
import pytest

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
