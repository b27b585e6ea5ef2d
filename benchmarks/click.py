"""What a click costs: Sam2 beside upstream's SAM2ImagePredictor, in one paired run.

    python benchmarks/click.py [--threads 2] [--pairs 15] [--cpu-time]

Both get the same SAM 2.1 tiny weights (random: the time does not depend on them) and the same
prompts; the two are timed in turn, so that what else the machine does falls on both alike, and the
ratio is the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models import fast_decode
from napari_pathsam.models.checkpoints import VIDEO_PARTS
from napari_pathsam.models.fast_upscale import upscale
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import SAM2_CONFIGS

CANVAS = (1000, 1000)


def paired(name: str, theirs: Callable, ours: Callable, pairs: int) -> None:
    """Median times of two functions called in turn, and the median of their ratios."""
    theirs(), ours()
    times = np.array([[timed(theirs), timed(ours)] for _ in range(pairs)])
    a, b = np.median(times, axis=0) * 1e3
    ratios = times[:, 0] / times[:, 1]
    low, high = np.percentile(ratios, [25, 75])
    print(
        f"{name:48s} {a:8.1f} ms {b:8.1f} ms   {np.median(ratios):5.2f}× ({low:.2f} to {high:.2f})",
        flush=True,
    )


clock = time.perf_counter


def timed(function: Callable) -> float:
    start = clock()
    function()
    return clock() - start


def image_of(side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(80, 256, (side // 32, side // 32, 3), np.uint8)
    return coarse.repeat(32, 0).repeat(32, 1)


def compare(pairs: int) -> None:
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    upstream = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu", mode="eval")
    model = Sam2(SAM2_CONFIGS["sam2.1-tiny"]).eval()
    state = upstream.state_dict()
    model.load_state_dict({k: t for k, t in state.items() if not k.startswith(VIDEO_PARTS)})
    predictor = SAM2ImagePredictor(upstream)

    print(f"\n{'SAM 2.1 tiny':48s} {'upstream':>11s} {'ours':>11s}   ratio (quartiles)")
    on_a_field(predictor, model, pairs)
    on_a_large_image(predictor, model, pairs)


def on_a_field(predictor, model: Sam2, pairs: int) -> None:
    image = image_of(1024)
    predictor.set_image(image)
    embedding = model.encode(image)
    click = Prompts(points_yx=((400, 600),), positive=(True,))
    xy, signs = np.array([[600, 400], [500, 300]]), np.array([1, 0])
    paired(
        "click, 1024² image",
        lambda: predictor.predict(xy[:1], signs[:1]),
        lambda: model.decode_prompts(embedding, click).mask,
        pairs,
    )
    answer = model.decode_prompts(embedding, click)
    more = click.with_point(300, 500, positive=False)
    fed_back = np.clip(answer.low_res_logits[answer.best], -32, 32)[None]
    paired(
        "second click with the mask fed back, 1024² image",
        lambda: predictor.predict(xy, signs, mask_input=fed_back, multimask_output=False),
        lambda: model.decode_prompts(embedding, more, previous=answer).mask,
        pairs,
    )
    many_boxes(predictor, model, embedding, max(3, pairs // 3))


def on_a_large_image(predictor, model: Sam2, pairs: int) -> None:
    image = image_of(4096)
    predictor.set_image(image)
    embedding = model.encode(image)
    click = Prompts(points_yx=((1600, 2400),), positive=(True,))
    paired(
        "click, 4096² image shown in a 1000-pixel canvas",
        lambda: predictor.predict(np.array([[2400, 1600]]), np.array([1])),
        lambda: shown(model.decode_prompts(embedding, click)),
        pairs,
    )


def shown(answer) -> np.ndarray:
    """The best mask as the canvas shows it; the other two when somebody asks for them."""
    return answer.logits_at(answer.best, CANVAS) > 0


def many_boxes(predictor, model: Sam2, embedding, pairs: int) -> None:
    """16 boxes of 60 to 180 pixels, as a field of glands has them."""
    rng = np.random.default_rng(1)
    corners = [(256 * i + 20, 256 * j + 20) for i in range(4) for j in range(4)]
    sizes = rng.integers(60, 181, (16, 2))
    boxes = [(y, x, y + h, x + w) for (y, x), (h, w) in zip(corners, sizes, strict=True)]
    prompts = [Prompts(box=tuple(float(v) for v in box)) for box in boxes]

    def one_by_one() -> None:
        for y0, x0, y1, x1 in boxes:
            predictor.predict(box=np.array([x0, y0, x1, y1]), multimask_output=False)

    def together(whole: bool) -> Callable:
        return lambda: [a.mask for a in model.decode_many(embedding, prompts, whole=whole)]

    paired("16 boxes, each decoded round its box", one_by_one, together(whole=False), pairs)
    paired("16 boxes, whole image", one_by_one, together(whole=True), pairs)


def where_the_time_goes(name: str, side: int, repeats: int) -> None:
    """Parts of one click of ours; medians."""
    model = Sam2(SAM2_CONFIGS[name]).eval()
    image = image_of(side)
    embedding = model.encode(image)
    click = Prompts(points_yx=((side / 2, side / 2),), positive=(True,))
    answer = model.decode_prompts(embedding, click)
    with torch.inference_mode():
        decoder, levels = model.sam_mask_decoder, (embedding, *embedding.coarser)
        asked = [model._asked(e, model._stamp(), [click], None, around=False) for e in levels]
        attended = fast_decode.attend(decoder, asked)

        def prepare() -> None:
            embedding.prepared.clear()
            model._prepared(embedding, model._stamp())

        def upscaling() -> None:
            for one, found in zip(asked, attended, strict=True):
                shared = one.prepared
                upscale(
                    decoder,
                    found.image[0],
                    shared.skips,
                    found.weights[0],
                    None,
                    shared.picture,
                    found.drawn[0],
                )

        parts = {
            "whole click": lambda: model.decode_prompts(embedding, click).mask,
            "  prompts encoded": lambda: [
                model._asked(e, model._stamp(), [click], None, around=False) for e in levels
            ],
            "  tokens and image attend": lambda: fast_decode.attend(decoder, asked),
            "  upscaling": upscaling,
            "  mask at the image's size": lambda: answer.mask,
            "once an image: encoding": lambda: model.encode(image),
            "once an image: preparing": prepare,
        }
        print(f"\n{name}, {side}² image")
        for part, function in parts.items():
            n = 3 if "encoding" in part else repeats
            function()
            print(f"{part:30s} {1e3 * np.median([timed(function) for _ in range(n)]):8.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--cpu-time", action="store_true", help="of one thread: for a busy machine")
    args = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    if args.cpu_time:
        global clock
        args.threads, clock = 1, time.thread_time
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.pairs} pairs")
    compare(args.pairs)
    for name, side in (("sam2.1-tiny", 1024), ("pathsam-nano", 1024), ("pathsam-nano", 512)):
        where_the_time_goes(name, side, args.pairs)


if __name__ == "__main__":
    main()
