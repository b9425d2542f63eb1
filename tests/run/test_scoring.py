"""Scores of whole images, compared with a loop without tiles and batches."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from unet_jax.build.training import build
from unet_jax.data.examples import Examples, MemoryBudget
from unet_jax.run import scoring
from unet_jax.run.scoring import score_images


def build_fresh(config):
    """Returns the parts that score a run, and fresh variables."""
    parts = build(config)
    state = parts.init(jax.random.key(1))
    return parts.evaluation, parts.evaluation.method.variables(state)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_scores_are_those_of_whole_images(tiny, padding):
    tiny.model = ConfigDict({"name": "UNet", "widths": (2, 4), "padding": padding})
    tiny.crop = (28, 28)
    tiny.data.test = 11  # more than one batch of 8; the last one is padded
    tiny.predict.tile = (28, 28)
    parts, variables = build_fresh(tiny)
    evaluation = score_images(parts, variables, "test", parts.test, as_predicted=True)

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
        image = evaluation.per_image[i]
        assert image["id"] == parts.test[i]["id"]
        assert image["dice"] == pytest.approx((hit / size).mean(), abs=1e-6)
        loss = parts.loss(logits, parts.test[i])
        assert image["loss"] == pytest.approx(float(loss), rel=1e-4)
        hits, sizes = hits + hit, sizes + size
    scores = evaluation.scores
    assert scores["test/accuracy"] == pytest.approx(right / total, abs=1e-6)
    assert scores["test/dice/cell"] == pytest.approx(hits[1] / sizes[1], abs=1e-6)
    assert scores["test/dice"] == pytest.approx((hits / sizes).mean(), abs=1e-6)
    losses = [image["loss"] for image in evaluation.per_image]
    assert scores["test/loss"] == pytest.approx(np.mean(losses))
    assert evaluation.confusion.sum() == evaluation.reliability[0].sum() == total


@pytest.mark.slow
def test_images_of_several_sizes_are_scored_in_their_order(tiny):
    small, variables = build_fresh(tiny)
    tiny.data.shape = (33, 18)
    large, _ = build_fresh(tiny)
    several = [large.test[0], small.test[0], large.test[1], small.test[1]]
    mixed = Examples(several.__getitem__, len(several), MemoryBudget(0))
    evaluation = score_images(small, variables, "test", mixed, as_predicted=False)
    assert [image["id"] for image in evaluation.per_image] == [e["id"] for e in several]
    assert evaluation.scores["test/loss"] > 0
    # three times as wide, for the titles
    assert evaluation.picture.shape[1] == 3 * (4 * 24 + 3 * 4)


def test_scores_use_the_predict_options_of_the_config(tiny):
    tiny.predict.postprocess = (
        ConfigDict({"name": "remove_small", "pixels": 10**6}),
        ConfigDict({"name": "watershed"}),
    )
    tiny.predict.tta = "flips"
    parts, variables = build_fresh(tiny)
    evaluation = score_images(parts, variables, "test", parts.test, as_predicted=True)
    assert evaluation.confusion[:, 1].sum() == 0  # no object is that large
    assert evaluation.scores["test/panoptic_quality"] == 0
    assert evaluation.scores["test/loss"] is None  # undefined for a mean over views
    alone = score_images(parts, variables, "val", build(tiny).val, as_predicted=False)
    assert alone.scores["val/loss"] > 0
    assert alone.confusion[:, 1].sum() > 0


def test_the_measures_of_several_processes_are_gathered(tiny, monkeypatch):
    """Runs two processes of a run in turn, each with every other image."""
    tiny.data.test = 5
    parts, variables = build_fresh(tiny)
    alone = score_images(parts, variables, "test", parts.test, as_predicted=True)
    shares = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        with monkeypatch.context() as patch:
            patch.setattr(scoring, "_gather_processes", lambda m: shares.append(m) or m)
            score_images(parts, variables, "test", parts.test, as_predicted=True)
    assert [len(share) for share in shares] == [3, 2]

    texts = [scoring._encode(share) for share in shares]
    most = max(map(len, texts))
    replies = iter(
        [
            np.array([len(t) for t in texts]),
            np.stack([np.pad(t, (0, most - len(t))) for t in texts]),
        ]
    )
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda x: next(replies))
    together = scoring._compute_scores(
        parts, "test", sorted(scoring._gather_processes(shares[0])), alone.picture
    )
    assert together.scores == alone.scores
    assert together.per_image == alone.per_image
