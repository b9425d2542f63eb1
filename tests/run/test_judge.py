"""Scores of whole images, against a loop that knows nothing of tiles or batches."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from unet_jax import tiling
from unet_jax.build import build
from unet_jax.data.pipeline import Examples, Room
from unet_jax.run import judge


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_scores_are_those_of_whole_images(tiny, padding, monkeypatch):
    tiny.model = ConfigDict({"name": "UNet", "widths": (2, 4), "padding": padding})
    tiny.crop = (28, 28)
    tiny.data.test = 11  # more than one batch of 8, the last one filled up
    monkeypatch.setattr(tiling, "LIMIT", 28 * 28)
    parts = build(tiny)
    state = parts.init(jax.random.key(1))
    placed = parts.layout.put_state(state)
    scores, _ = judge.judge(tiny, parts, placed, "test", parts.test)

    margin = parts.model.margin
    right = total = 0
    hits, sizes = np.zeros(2), np.zeros(2)
    for i in range(11):
        image, label = parts.test[i]["image"], parts.test[i]["label"]
        pad = [(margin, margin)] * 2 + [(0, 0)]
        image = np.pad(image, pad, mode="reflect")
        logits = parts.model.apply(state.variables, image[None])[0]
        prediction = np.argmax(logits, axis=-1)
        assert prediction.shape == label.shape
        right += int((prediction == label).sum())
        total += label.size
        for k in range(2):
            hits[k] += 2 * int(((prediction == k) & (label == k)).sum())
            sizes[k] += int((prediction == k).sum() + (label == k).sum())
    assert scores["test/accuracy"] == pytest.approx(right / total, abs=1e-6)
    assert scores["test/dice/cell"] == pytest.approx(hits[1] / sizes[1], abs=1e-6)
    assert scores["test/dice"] == pytest.approx((hits / sizes).mean(), abs=1e-6)


def test_images_of_several_sizes_are_batched_by_size(tiny):
    parts = build(tiny)
    small, large = parts.test, build(tiny_of(tiny, (33, 18))).test
    several = [small[0], large[0], small[1], large[1], large[2]]
    mixed = Examples(several.__getitem__, len(several), Room(0))
    state = parts.layout.put_state(parts.init(jax.random.key(1)))
    together, drawn = judge.judge(tiny, parts, state, "test", mixed)
    assert together["test/loss"] > 0
    assert drawn.shape[1] == 3 * (4 * 24 + 3 * 4)  # enlarged, for the titles


def test_sums_over_processes_keep_64_bits(monkeypatch):
    """Two processes of the same sums, beyond what 32 bits hold."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        multihost_utils, "process_allgather", lambda x: np.stack([x, x])
    )
    pixels, loss, confusion = 2**40 + 1, 1 / 3, np.full((2, 2), 2**33, np.int64)
    got = judge._over_processes((pixels, loss, confusion))
    assert got[0] == 2**41 + 2
    assert got[1] == 2 / 3
    np.testing.assert_array_equal(got[2], 2 * confusion)


def tiny_of(tiny, shape):
    tiny.data.shape = shape
    return tiny
