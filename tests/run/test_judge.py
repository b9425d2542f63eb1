"""Scores of whole images, against a loop that knows nothing of tiles or batches."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from unet_jax.build.training import build
from unet_jax.data.examples import Examples, MemoryBudget
from unet_jax.run import judge


def start(config):
    parts = build(config)
    state = parts.init(jax.random.key(1))
    return parts.judging, parts.judging.method.variables(state)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_scores_are_those_of_whole_images(tiny, padding):
    tiny.model = ConfigDict({"name": "UNet", "widths": (2, 4), "padding": padding})
    tiny.crop = (28, 28)
    tiny.data.test = 11  # more than one batch of 8, the last one filled up
    tiny.predict.tile = (28, 28)
    parts, variables = start(tiny)
    judged = judge.judge(parts, variables, "test", parts.test, as_predicted=True)

    model = build(tiny).model
    margin = model.geometry(2).margin[0]
    right = total = 0
    hits, sizes = np.zeros(2), np.zeros(2)
    for i in range(11):
        image, label = parts.test[i]["image"], parts.test[i]["label"]
        pad = [(margin, margin)] * 2 + [(0, 0)]
        image = np.pad(image, pad, mode="reflect")
        logits = model.apply(variables, image[None])[0]
        prediction = np.argmax(logits, axis=-1)
        assert prediction.shape == label.shape
        right += int((prediction == label).sum())
        total += label.size
        hit = np.zeros(2)
        size = np.zeros(2)
        for k in range(2):
            hit[k] = 2 * int(((prediction == k) & (label == k)).sum())
            size[k] = int((prediction == k).sum() + (label == k).sum())
        assert judged.images[i]["id"] == parts.test[i]["id"]
        assert judged.images[i]["dice"] == pytest.approx((hit / size).mean(), abs=1e-6)
        loss = parts.loss(logits, parts.test[i])
        assert judged.images[i]["loss"] == pytest.approx(float(loss), rel=1e-4)
        hits, sizes = hits + hit, sizes + size
    scores = judged.scores
    assert scores["test/accuracy"] == pytest.approx(right / total, abs=1e-6)
    assert scores["test/dice/cell"] == pytest.approx(hits[1] / sizes[1], abs=1e-6)
    assert scores["test/dice"] == pytest.approx((hits / sizes).mean(), abs=1e-6)
    losses = [image["loss"] for image in judged.images]
    assert scores["test/loss"] == pytest.approx(np.mean(losses))
    assert judged.confusion.sum() == judged.reliability[0].sum() == total


def test_images_of_several_sizes_are_judged_in_their_order(tiny):
    small, variables = start(tiny)
    tiny.data.shape = (33, 18)
    large, _ = start(tiny)
    several = [large.test[0], small.test[0], large.test[1], small.test[1]]
    mixed = Examples(several.__getitem__, len(several), MemoryBudget(0))
    judged = judge.judge(small, variables, "test", mixed, as_predicted=False)
    assert [image["id"] for image in judged.images] == [e["id"] for e in several]
    assert judged.scores["test/loss"] > 0
    assert judged.drawn.shape[1] == 3 * (4 * 24 + 3 * 4)  # enlarged, for the titles


def test_what_the_config_makes_of_predictions_is_what_is_judged(tiny):
    tiny.predict.postprocess = (
        ConfigDict({"name": "remove_small", "pixels": 10**6}),
        ConfigDict({"name": "watershed"}),
    )
    tiny.predict.tta = "flips"
    parts, variables = start(tiny)
    judged = judge.judge(parts, variables, "test", parts.test, as_predicted=True)
    assert judged.confusion[:, 1].sum() == 0  # nothing is that large
    assert judged.scores["test/panoptic_quality"] == 0
    assert judged.scores["test/loss"] is None  # of a mean over views there is none
    alone = judge.judge(parts, variables, "val", build(tiny).val, as_predicted=False)
    assert alone.scores["val/loss"] > 0
    assert alone.confusion[:, 1].sum() > 0


def test_the_images_of_several_processes_are_put_together(tiny, monkeypatch):
    """Two processes of a run, each with every other image, one after the other."""
    tiny.data.test = 5
    parts, variables = start(tiny)
    alone = judge.judge(parts, variables, "test", parts.test, as_predicted=True)
    shares = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        with monkeypatch.context() as patch:
            patch.setattr(judge, "_over_processes", lambda m: shares.append(m) or m)
            judge.judge(parts, variables, "test", parts.test, as_predicted=True)
    assert [len(share) for share in shares] == [3, 2]

    texts = [judge._packed(share) for share in shares]
    most = max(map(len, texts))
    replies = iter(
        [
            np.array([len(t) for t in texts]),
            np.stack([np.pad(t, (0, most - len(t))) for t in texts]),
        ]
    )
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda x: next(replies))
    together = judge._score(
        parts, "test", sorted(judge._over_processes(shares[0])), alone.drawn
    )
    assert together.scores == alone.scores
    assert together.images == alone.images
