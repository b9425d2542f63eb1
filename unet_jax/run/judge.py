"""Whole images against their labels: every pixel judged once, in sums."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from unet_jax import pictures, tiling
from unet_jax.arrays import IGNORE, window
from unet_jax.build import Parts
from unet_jax.data.pipeline import Examples
from unet_jax.metrics.overlap import summarize
from unet_jax.step import State

Scores = dict[str, float | None]
PICTURED = 4  # images of a split that are drawn


class Cut(NamedTuple):
    """One tile of one image of a split; a spare one only fills a batch up."""

    index: int
    tiles: tiling.Tiles
    origin: tuple[int, ...]
    spare: bool = False


def judge(
    config: ConfigDict, parts: Parts, state: State, split: str, examples: Examples
) -> tuple[Scores, pictures.Picture]:
    """The scores of a split, and a picture of its first images.

    The confusion matrix is summed over every pixel of every image and scored once. The
    loss is the mean over tiles, each counting as its judged pixels do.
    """
    layout = parts.layout
    pixels, loss, confusion = 0, 0.0, 0
    drawn: dict[int, list[np.ndarray]] = {}
    for group in _groups(config, parts, _cuts(parts.model, examples)):
        batch = _batch(examples, group)
        judged = (batch["label"] != IGNORE).reshape(len(group), -1).sum(1)
        out = parts.eval_step(state, layout.put_batch(batch))
        pixels += judged.sum()
        loss += layout.fetch(out["loss"]).astype(np.float64) @ judged
        confusion += layout.fetch(out["confusion"]).sum(0, dtype=np.int64)
        if any(cut.index < PICTURED for cut in group):
            answers = layout.fetch(out["prediction"])
            for cut, answer in zip(group, answers, strict=True):
                if cut.index < PICTURED and not cut.spare:
                    drawn.setdefault(cut.index, []).append(answer)
    pixels, loss, confusion = _over_processes((pixels, loss, confusion))
    scores = {f"{split}/loss": float(loss) / max(int(pixels), 1)}
    scores |= summarize(confusion, parts.metrics, parts.classes, split)
    rows = [
        _draw(parts, examples[index], pieces) for index, pieces in sorted(drawn.items())
    ]
    return scores, pictures.sheet([row for row in rows if row is not None])


def _plan(model: Any, image: tuple[int, ...]) -> tiling.Tiles:
    return tiling.plan(
        image,
        margin=model.margin,
        multiple=2**model.depth,
        valid_size=model.valid_size,
    )


def _cuts(model: Any, examples: Examples) -> list[Cut]:
    return [
        Cut(index, tiles, origin)
        for index in range(len(examples))
        for tiles in [_plan(model, examples.shape(index))]
        for origin in tiles.origins
    ]


def _groups(config: ConfigDict, parts: Parts, cuts: list[Cut]) -> Iterator[list[Cut]]:
    """This process's rows of each batch; the tiles of a batch have one shape.

    A batch holds about as many pixels as one in training. The last of a shape is filled
    up with spares: all are equally large, and every process takes part in each.
    """
    replicas, processes = parts.layout.replicas, jax.process_count()
    budget = config.batch_size // replicas * math.prod(config.crop)
    cuts = sorted(cuts, key=lambda cut: cut.tiles.shape)
    for shape, same in itertools.groupby(cuts, lambda cut: cut.tiles.shape):
        same = list(same)
        most = -(-len(same) // replicas)
        size = replicas * min(max(1, budget // math.prod(shape)), most)
        same += [same[0]._replace(spare=True)] * (-len(same) % size)
        here = size // processes
        for start in range(jax.process_index() * here, len(same), size):
            yield same[start : start + here]


def _batch(examples: Examples, group: list[Cut]) -> dict[str, np.ndarray]:
    rows = [_row(examples[cut.index], cut) for cut in group]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _row(example: dict[str, Any], cut: Cut) -> dict[str, np.ndarray]:
    """A tile and what it is judged by; nobody judges a spare."""
    image, label = tiling.cut(cut.tiles, cut.origin, example["image"], example["label"])
    start = [o - cut.tiles.margin for o in cut.origin]
    weight = window(example["weight"], start, cut.tiles.shape)
    if cut.spare:
        label = np.full_like(label, IGNORE)
    return {"image": image, "label": label, "weight": weight}


def _draw(
    parts: Parts, example: dict[str, Any], pieces: list[np.ndarray]
) -> pictures.Picture | None:
    """Input, truth, prediction, error; None where another process has a part."""
    shape = example["weight"].shape
    tiles = _plan(parts.model, shape)
    if len(pieces) != len(tiles.origins):
        return None
    prediction = tiling.stitch(tiles, shape, pieces)
    colours = parts.preprocessing["colours"]
    return pictures.row(example["image"], example["label"], prediction, colours)


def _over_processes(sums: Any) -> Any:
    """Adds up over processes, through bytes: JAX would cut 64 bits down to 32."""
    if jax.process_count() == 1:
        return sums

    def add(part: np.ndarray) -> np.ndarray:
        part = np.atleast_1d(np.asarray(part))
        raw = np.frombuffer(part.tobytes(), np.uint8)
        parts = np.asarray(multihost_utils.process_allgather(raw))
        every = np.frombuffer(parts.tobytes(), part.dtype)
        return every.reshape(len(parts), *part.shape).sum(0).squeeze()

    return jax.tree.map(add, sums)
