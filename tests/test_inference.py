"""Members, views, tiles and batches, against the network on the whole image."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from unet_jax import inference, parallel, tasks, tiling, views
from unet_jax.errors import UserError
from unet_jax.geometry import Geometry
from unet_jax.inference import Inference, Want
from unet_jax.models import UNet
from unet_jax.tasks import Data

DATA = Data(("background", "a", "b", "c"), axes=2, channels=1)
SOFTMAX, SIGMOID = tasks.semantic(DATA), tasks.multilabel(DATA)
ALL = Want(prediction=True, doubt=True)


def members(model, count=1, channels=1):
    devices = parallel.local_devices()
    example = np.zeros((1, 60, 60, channels), np.float32)
    init = jax.jit(model.init)
    return [devices.put_state(init(jax.random.key(i), example)) for i in range(count)]


def ask(model, variables, images, **how):
    options = {k: how.pop(k) for k in ("edges", "batch", "task") if k in how}
    options = {"task": SOFTMAX, "channels": 1} | options
    asked = Inference(model, devices=parallel.local_devices(), **options)
    shape = images[0].shape[:-1]
    reads = [lambda box, image=image: image[tuple(box)] for image in images]
    return list(asked.whole(variables, shape, reads, **how))


def pictures(count=1, shape=(75, 50)):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(*shape, 1)).astype("f4") for _ in range(count)]


class Slope(nn.Module):
    """Gives the gradient of an image, which turns with it, and the image as a logit.

    Attributes:
      local: False claims that a pixel depends on the whole image: tiles are blended.
    """

    local: bool = True

    def __call__(self, image, *, train=False, seed=None):
        axes = range(1, image.ndim - 1)
        return jnp.concatenate(
            [*(jnp.gradient(image, axis=i) for i in axes), image], -1
        )

    def geometry(self, axes):
        ones = (1,) * axes
        halo = ones if self.local else None
        return Geometry((ones,), (0,) * axes, halo, lambda shape: shape, strict=False)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def by_hand(model, variables, image, seen):
    """The probabilities of each member in each view of the mirrored whole image."""
    shape, geometry = image.shape[:-1], model.geometry(2)
    margin = geometry.margin[0]
    size = geometry.valid_shape(tuple(n + 2 * margin for n in shape))
    ends = [(margin, s - n - margin) for n, s in zip(shape, size, strict=True)]
    padded = np.pad(image, [*ends, (0, 0)], mode="reflect")[None]
    answers = []
    for one in variables:
        for view in seen:
            logits = model.apply(one, np.asarray(views.apply_view(padded, view)))
            back = np.asarray(views.invert_view(np.asarray(logits), view))[0]
            answers.append(softmax(back[: shape[0], : shape[1]]))
    return np.stack(answers)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("tta", ["none", "d4"])
def test_the_mean_over_members_and_views(padding, tta):
    model = UNet((2, 3), padding=padding)
    variables, seen = members(model, 2), getattr(views, tta)(2)
    (image,) = pictures()
    (got,) = ask(model, variables, [image], edges=(36, 44), views=seen, want=ALL)
    every = by_hand(model, variables, image, seen)
    np.testing.assert_allclose(got["prediction"], every.mean(0), atol=2e-6)
    members_mean = every.reshape(2, len(seen), *every.shape[1:]).mean(1)
    doubts = scipy_entropy(members_mean, axis=-1).mean(0)
    np.testing.assert_allclose(got["doubt"], doubts, atol=2e-6)
    np.testing.assert_array_equal(got["label"], got["prediction"].argmax(-1))
    (one,) = ask(model, variables[:1], [image], views=seen, want=ALL)
    alone = by_hand(model, variables[:1], image, seen)  # its views are the members
    np.testing.assert_allclose(
        one["doubt"], scipy_entropy(alone, axis=-1).mean(0), atol=2e-6
    )


@pytest.mark.parametrize("tta", ["d4", "flips"])
@pytest.mark.parametrize("shape", [(30, 24), (6, 14, 12)])
@pytest.mark.parametrize("local", [True, False], ids=["tiles", "blended"])
def test_vectors_turn_back_before_they_are_averaged(shape, local, tta):
    """Every view of a network that turns with its image says the same."""
    axes, model = len(shape), Slope(local)
    task = tasks.flow(DATA._replace(axes=axes))
    (image,) = pictures(1, shape)
    seen = getattr(views, tta)(axes)
    ask_of = functools.partial(ask, model, [{}], [image], task=task, want=ALL)
    (whole,) = ask_of(views=seen)
    slope = np.stack(np.gradient(image[..., 0]), -1) / 5  # the length of its vectors
    np.testing.assert_allclose(whole["prediction"][..., :-1], slope, atol=2e-6)
    (one,), (all_views,) = (
        ask_of(edges=(10,) * axes, views=v) for v in (seen[:1], seen)
    )
    np.testing.assert_allclose(all_views["prediction"], one["prediction"], atol=2e-6)
    if local:
        inner = (slice(1, -1),) * axes  # beyond its border an image is mirrored
        np.testing.assert_allclose(
            one["prediction"][inner][..., :-1], slope[inner], atol=2e-6
        )


def test_progress_is_told_to_the_end():
    model, told = UNet((2, 3)), []
    ask(
        model,
        members(model),
        pictures(2),
        edges=(44, 44),
        passed=lambda *now: told.append(now),
    )
    assert told == [(i + 1, len(told)) for i in range(len(told))]
    assert len(told) > 2


def test_images_of_a_batch_do_not_see_each_other():
    model = UNet((2, 3))
    images, variables = pictures(3), members(model)
    together = ask(model, variables, images, want=ALL, batch=16, edges=(44, 44))
    assert len(together) == 3
    for image, answer in zip(images, together, strict=True):
        (alone,) = ask(model, variables, [image], want=ALL)
        np.testing.assert_allclose(answer["prediction"], alone["prediction"], atol=2e-6)


def test_independent_classes_answer_for_themselves():
    model = UNet((2, 3), outputs=3)
    variables, (image,) = members(model), pictures()
    (got,) = ask(
        model,
        variables,
        [image],
        task=SIGMOID,
        want=ALL._replace(output=True),
        edges=(60, 60),
    )
    np.testing.assert_allclose(
        got["prediction"], 1 / (1 + np.exp(-got["output"])), rtol=1e-5
    )
    np.testing.assert_array_equal(got["label"], got["prediction"] > 0.5)
    p = got["prediction"]
    pair = np.stack([p, 1 - p], -1)
    np.testing.assert_allclose(
        inference.entropy(SIGMOID, p),
        scipy_entropy(pair, axis=-1).sum(-1),
        rtol=1e-4,
    )


def test_norms_over_space_are_blended_from_probabilities(capsys):
    model = UNet((2, 3), norm="instance", padding="SAME")
    variables, (image,) = members(model), pictures()
    (got,) = ask(model, variables, [image], edges=(32, 32))
    assert got["label"].shape == image.shape[:-1]
    assert got["label"].dtype == np.uint8
    assert "overlap by half and are blended" in capsys.readouterr().out
    want = Want(prediction=True)
    (full,) = ask(model, variables, [image], edges=(32, 32), want=want)
    np.testing.assert_array_equal(got["label"], full["prediction"].argmax(-1))
    np.testing.assert_allclose(full["prediction"].sum(-1), 1, atol=1e-6)


def test_out_of_memory_means_smaller_tiles_and_the_same_answer(monkeypatch, capsys):
    model = UNet((2, 3))
    variables, images = members(model), pictures(2, (90, 90))
    expected = ask(model, variables, images, want=ALL)
    look = Inference._predict_tiles

    def full(self, members, batch, *rest):
        if batch.shape[1] > 60:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return look(self, members, batch, *rest)

    monkeypatch.setattr(Inference, "_predict_tiles", full)
    got = ask(model, variables, images, want=ALL)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a["prediction"], b["prediction"], atol=2e-6)
    assert "memory is short: " in capsys.readouterr().out


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is on fire")

    monkeypatch.setattr(Inference, "_predict_tiles", broken)
    model = UNet((2, 3))
    with pytest.raises(jax.errors.JaxRuntimeError, match="on fire"):
        ask(model, members(model), pictures())


def test_tiles_fit_into_the_memory_that_is_free(capsys):
    model = UNet((4, 8))
    variables, (image,) = members(model), pictures(1, (300, 200))
    devices = parallel.local_devices()
    read = [lambda box: image[tuple(box)]]

    def asked(free):
        make = functools.partial(Inference, model, channels=1, task=SOFTMAX)
        one = make(devices=devices._replace(read_free_memory=lambda: free))
        (answer,) = one.whole(variables, (300, 200), read)
        return answer["label"]

    roomy = asked(2**40)
    assert capsys.readouterr().out == ""
    tight = asked(2**21)
    assert "memory is short" in capsys.readouterr().out
    assert (roomy == tight).mean() > 0.999  # but for ties
    with pytest.raises(UserError, match="a tile of 18 x 18 pixels, the least"):
        asked(2**10)


def test_tiles_of_the_asked_size_are_taken(monkeypatch):
    model = UNet((2, 3))
    shapes = []
    cut = tiling.read_tile
    monkeypatch.setattr(
        tiling,
        "read_tile",
        lambda tiles, *a: shapes.append(tiles.shape) or cut(tiles, *a),
    )
    ask(model, members(model), pictures(), edges=(40, 50), batch=8)
    assert set(shapes) == {(40, 50)}
    shapes.clear()
    monkeypatch.setattr(tiling, "MAX_PIXELS", 2**10)
    ask(model, members(model), pictures(1, (75, 60)), edges=(92, 92))
    assert set(shapes) == {(92, 76)}  # whole: the limit is for what is left to us
    with pytest.raises(UserError, match="must be 18 or more along axis 1, not 9"):
        ask(model, members(model), pictures(), edges=(40, 9))


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_images_of_many_sizes_share_programs(padding, monkeypatch):
    monkeypatch.setattr(inference, "PROGRAMS", 3)
    model = UNet((2, 3), padding=padding)
    variables = members(model)
    shared = Inference(
        model, devices=parallel.local_devices(), channels=1, task=SOFTMAX
    )
    for size in (90, 70, 80, *range(71, 90)):
        (image,) = pictures(1, (size, size + 1))
        read = [lambda box, image=image: image[tuple(box)]]
        want = Want(prediction=True)
        (got,) = shared.whole(variables, image.shape[:-1], read, want=want)
        (alone,) = ask(model, variables, [image], want=want)
        np.testing.assert_allclose(got["prediction"], alone["prediction"], atol=2e-6)
    assert len(shared._programs) == 3


def test_a_batch_that_was_asked_for_is_given_up_when_memory_is_short(monkeypatch):
    def full(self, members, batch, *rest):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(Inference, "_predict_tiles", full)
    model = UNet((2, 3))
    with pytest.raises(UserError, match="a tile of 18 x 18 pixels, the least"):
        ask(model, members(model), pictures(1, (90, 90)), edges=(60, 60), batch=64)


def test_an_image_that_does_not_fit_leaves_the_next_as_it_was(monkeypatch, capsys):
    model, look = UNet((2, 3)), Inference._predict_tiles
    small, large = pictures(1, (30, 40)) + pictures(1, (300, 200))
    asked = Inference(model, devices=parallel.local_devices(), channels=1, task=SOFTMAX)
    variables, shapes = members(model), []

    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(Inference, "_predict_tiles", full)
    with pytest.raises(UserError, match="needs more memory than there is"):
        next(asked.whole(variables, (30, 40), [lambda box: small[tuple(box)]]))
    assert len(capsys.readouterr().out.splitlines()) < 6  # each took less than before
    monkeypatch.setattr(
        Inference,
        "_predict_tiles",
        lambda self, who, batch, *a: (
            shapes.append(batch.shape) or look(self, who, batch, *a)
        ),
    )
    next(asked.whole(variables, (300, 200), [lambda box: large[tuple(box)]]))
    assert shapes == [(8, 316, 216, 1)]  # whole, a row for each device
