"""Inference in tiles and batches, against the network on the whole image."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from unet_jax import inference, parallel, runtime, tasks, tiling, views
from unet_jax.errors import UserError
from unet_jax.geometry import Geometry
from unet_jax.inference import Inference, NonFinitePredictionError, Request
from unet_jax.models import UNet
from unet_jax.tasks import TaskData

DATA = TaskData(("background", "a", "b", "c"), axes=2, channels=1)
SOFTMAX, SIGMOID = tasks.semantic(DATA), tasks.multilabel(DATA)
ALL = Request(prediction=True, member_entropy=True)


def make_members(model, count=1, channels=1):
    devices = parallel.local_devices()
    example = np.zeros((1, 60, 60, channels), np.float32)
    init = jax.jit(model.init)
    return [devices.put_state(init(jax.random.key(i), example)) for i in range(count)]


def make_inference(model, **options):
    devices = parallel.local_devices()
    computing = runtime.xla(model, devices.put_state, devices.batch_sharding)
    options = {"task": SOFTMAX, "channels": 1, "devices": devices} | options
    return Inference(computing, geometry=model.geometry, **options)


def predict(model, variables, images, **options):
    """Predicts images of one shape with a new `Inference`."""
    own = {k: options.pop(k) for k in ("edges", "batch", "task") if k in options}
    inferred = make_inference(model, **own)
    shape = images[0].shape[:-1]
    reads = [lambda box, image=image: image[tuple(box)] for image in images]
    return list(inferred.predict_images(variables, shape, reads, **options))


def make_images(count=1, shape=(75, 50)):
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


def predict_by_hand(model, variables, image, seen):
    """Returns the probabilities of the whole mirrored image, per member and view."""
    shape, geometry = image.shape[:-1], model.geometry(2)
    margin = geometry.margin[0]
    size = geometry.valid_shape(tuple(n + 2 * margin for n in shape))
    ends = [(margin, s - n - margin) for n, s in zip(shape, size, strict=True)]
    padded = np.pad(image, [*ends, (0, 0)], mode="reflect")[None]
    apply, probabilities = jax.jit(model.apply), []
    for one in variables:
        for view in seen:
            logits = apply(one, np.asarray(views.apply_view(padded, view)))
            back = np.asarray(views.invert_view(np.asarray(logits), view))[0]
            probabilities.append(softmax(back[: shape[0], : shape[1]]))
    return np.stack(probabilities)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("tta", ["none", pytest.param("d4", marks=pytest.mark.slow)])
def test_the_prediction_is_the_mean_over_members_and_views(padding, tta):
    model = UNet((2, 3), padding=padding)
    variables, seen = make_members(model, 2), getattr(views, tta)(2)
    (image,) = make_images()
    (got,) = predict(model, variables, [image], edges=(36, 44), views=seen, request=ALL)
    every = predict_by_hand(model, variables, image, seen)
    np.testing.assert_allclose(got["prediction"], every.mean(0), atol=1e-5)
    members_mean = every.reshape(2, len(seen), *every.shape[1:]).mean(1)
    entropy = scipy_entropy(members_mean, axis=-1).mean(0)
    np.testing.assert_allclose(got["member_entropy"], entropy, atol=1e-5)
    np.testing.assert_array_equal(got["label"], got["prediction"].argmax(-1))
    (one,) = predict(model, variables[:1], [image], views=seen, request=ALL)
    # of a single run, the views are the members
    alone = predict_by_hand(model, variables[:1], image, seen)
    np.testing.assert_allclose(
        one["member_entropy"], scipy_entropy(alone, axis=-1).mean(0), atol=1e-5
    )


@pytest.mark.parametrize("tta", ["d4", "flips"])
@pytest.mark.parametrize(
    "shape", [(30, 24), pytest.param((6, 14, 12), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("local", [True, False], ids=["tiles", "blended"])
def test_vectors_are_turned_back_before_the_mean(shape, local, tta):
    """All views agree for a network whose output turns with its image."""
    axes, model = len(shape), Slope(local)
    task = tasks.flow(DATA._replace(axes=axes))
    (image,) = make_images(1, shape)
    seen = getattr(views, tta)(axes)
    predict_views = functools.partial(
        predict, model, [{}], [image], task=task, request=ALL
    )
    (whole,) = predict_views(views=seen)
    slope = np.stack(np.gradient(image[..., 0]), -1) / 5  # the scale of `flow`
    np.testing.assert_allclose(whole["prediction"][..., :-1], slope, atol=1e-5)
    (one,), (all_views,) = (
        predict_views(edges=(10,) * axes, views=v) for v in (seen[:1], seen)
    )
    np.testing.assert_allclose(all_views["prediction"], one["prediction"], atol=1e-5)
    if local:
        inner = (slice(1, -1),) * axes  # outside its border the image is mirrored
        np.testing.assert_allclose(
            one["prediction"][inner][..., :-1], slope[inner], atol=1e-5
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_is_an_error_of_its_image(bad):
    """Labels would be class 0 without a word; the images before it are returned."""
    task = tasks.flow(DATA)
    images = make_images(3, (30, 24))
    images[2][7, 7] = bad
    inferred = make_inference(Slope(), task=task)
    reads = [lambda box, image=image: image[tuple(box)] for image in images]
    results = inferred.predict_images([{}], (30, 24), reads)
    assert all(np.isfinite(next(results)["label"]).all() for _ in range(2))
    with pytest.raises(NonFinitePredictionError, match="the prediction is not finite"):
        next(results)


def test_progress_is_reported_to_the_end():
    model, calls = UNet((2, 3)), []
    predict(
        model,
        make_members(model),
        make_images(2),
        edges=(44, 44),
        on_progress=lambda *call: calls.append(call),
    )
    assert calls == [(i + 1, len(calls)) for i in range(len(calls))]
    assert len(calls) > 2


@pytest.mark.slow
def test_images_of_a_batch_do_not_depend_on_each_other():
    model = UNet((2, 3))
    images, variables = make_images(3), make_members(model)
    together = predict(model, variables, images, request=ALL, batch=16, edges=(44, 44))
    assert len(together) == 3
    for image, result in zip(images, together, strict=True):
        (alone,) = predict(model, variables, [image], request=ALL)
        np.testing.assert_allclose(result["prediction"], alone["prediction"], atol=1e-5)


def test_independent_classes_use_the_sigmoid():
    model = UNet((2, 3), outputs=3)
    variables, (image,) = make_members(model), make_images()
    (got,) = predict(
        model,
        variables,
        [image],
        task=SIGMOID,
        request=ALL._replace(output=True),
        edges=(60, 60),
    )
    np.testing.assert_allclose(
        got["prediction"], 1 / (1 + np.exp(-got["output"])), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(got["label"], got["prediction"] > 0.5)
    p = got["prediction"]
    pair = np.stack([p, 1 - p], -1)
    np.testing.assert_allclose(
        inference.compute_entropy(SIGMOID, p),
        scipy_entropy(pair, axis=-1).sum(-1),
        rtol=1e-4,
        atol=1e-6,
    )


def test_tiles_with_norms_over_space_are_blended(capsys):
    model = UNet((2, 3), norm="instance", padding="SAME")
    variables, (image,) = make_members(model), make_images()
    (got,) = predict(model, variables, [image], edges=(32, 32))
    assert got["label"].shape == image.shape[:-1]
    assert got["label"].dtype == np.uint8
    assert "overlap by half and are blended" in capsys.readouterr().out
    request = Request(prediction=True)
    (full,) = predict(model, variables, [image], edges=(32, 32), request=request)
    np.testing.assert_array_equal(got["label"], full["prediction"].argmax(-1))
    np.testing.assert_allclose(full["prediction"].sum(-1), 1, atol=1e-5)


@pytest.mark.slow
def test_out_of_memory_means_smaller_tiles_and_the_same_result(monkeypatch, capsys):
    model = UNet((2, 3))
    variables, images = make_members(model), make_images(2, (90, 90))
    expected = predict(model, variables, images, request=ALL)
    predict_batch = Inference._predict_batch

    def fail(self, batch, **options):
        if batch.shape[1] > 60:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return predict_batch(self, batch, **options)

    monkeypatch.setattr(Inference, "_predict_batch", fail)
    got = predict(model, variables, images, request=ALL)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a["prediction"], b["prediction"], atol=1e-5)
    assert "memory is short: " in capsys.readouterr().out


def test_other_errors_of_the_device_are_raised(monkeypatch):
    def fail(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is on fire")

    monkeypatch.setattr(Inference, "_predict_batch", fail)
    model = UNet((2, 3))
    with pytest.raises(jax.errors.JaxRuntimeError, match="on fire"):
        predict(model, make_members(model), make_images())


@pytest.mark.slow
def test_tiles_fit_into_the_free_memory(capsys):
    model = UNet((4, 8))
    variables, (image,) = make_members(model), make_images(1, (300, 200))
    devices = parallel.local_devices()
    read = [lambda box: image[tuple(box)]]

    def label_with(free):
        limited = devices._replace(read_free_memory=lambda: free)
        one = make_inference(model, devices=limited)
        (result,) = one.predict_images(variables, (300, 200), read)
        return result["label"]

    large = label_with(2**40)
    assert capsys.readouterr().out == ""
    small = label_with(2**21)
    assert "memory is short" in capsys.readouterr().out
    assert (large == small).mean() > 0.999  # except ties
    with pytest.raises(UserError, match="a tile of 18 x 18 pixels, the smallest"):
        label_with(2**10)


@pytest.mark.slow
def test_tiles_have_the_requested_size(monkeypatch):
    model = UNet((2, 3))
    shapes = []
    read_tile = tiling.read_tile

    def record(tiles, *args):
        shapes.append(tiles.shape)
        return read_tile(tiles, *args)

    monkeypatch.setattr(tiling, "read_tile", record)
    predict(model, make_members(model), make_images(), edges=(40, 50), batch=8)
    assert set(shapes) == {(40, 50)}
    shapes.clear()
    monkeypatch.setattr(tiling, "DEFAULT_PIXELS", 2**10)
    predict(model, make_members(model), make_images(1, (75, 60)), edges=(92, 92))
    assert set(shapes) == {
        (92, 76)
    }  # DEFAULT_PIXELS does not apply to a requested size
    with pytest.raises(UserError, match="must be 18 or more along axis 1, not 9"):
        predict(model, make_members(model), make_images(), edges=(40, 9))


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_images_of_many_sizes_share_programs(padding, monkeypatch):
    monkeypatch.setattr(inference, "MAX_PROGRAMS", 3)
    model = UNet((2, 3), padding=padding)
    variables = make_members(model)
    shared = make_inference(model)
    for size in (90, 70, 80, *range(71, 90, 4)):
        (image,) = make_images(1, (size, size + 1))
        read = [lambda box, image=image: image[tuple(box)]]
        request = Request(prediction=True)
        (got,) = shared.predict_images(
            variables, image.shape[:-1], read, request=request
        )
        (alone,) = predict(model, variables, [image], request=request)
        np.testing.assert_allclose(got["prediction"], alone["prediction"], atol=1e-5)
    assert len(shared._programs) == 3


def test_a_requested_batch_becomes_smaller_when_memory_is_short(monkeypatch):
    def fail(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(Inference, "_predict_batch", fail)
    model = UNet((2, 3))
    with pytest.raises(UserError, match="a tile of 18 x 18 pixels, the smallest"):
        predict(
            model,
            make_members(model),
            make_images(1, (90, 90)),
            edges=(60, 60),
            batch=64,
        )


@pytest.mark.slow
def test_the_next_image_starts_with_large_tiles_again(monkeypatch, capsys):
    model, predict_batch = UNet((2, 3)), Inference._predict_batch
    small, large = make_images(1, (30, 40)) + make_images(1, (300, 200))
    inferred = make_inference(model)
    variables, shapes = make_members(model), []

    def fail(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(Inference, "_predict_batch", fail)
    read = [lambda box: small[tuple(box)]]
    with pytest.raises(UserError, match="needs more memory than there is"):
        next(inferred.predict_images(variables, (30, 40), read))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 6  # the tiles become smaller each time

    def record(self, batch, **options):
        shapes.append(batch.shape)
        return predict_batch(self, batch, **options)

    monkeypatch.setattr(Inference, "_predict_batch", record)
    read = [lambda box: large[tuple(box)]]
    next(inferred.predict_images(variables, (300, 200), read))
    # one tile for the whole image, and copies of it for the other devices
    assert shapes == [(8, 316, 216, 1)]


def test_the_mean_of_logits_is_taken_before_the_softmax():
    model = UNet((2, 4), padding="SAME", outputs=4)
    members = make_members(model, 2)
    (image,) = make_images()
    task = tasks.semantic(DATA, average="logits")
    (got,) = predict(model, members, [image], task=task, request=ALL)
    outputs = [np.asarray(model.apply(m, image[None])[0]) for m in members]
    each = [jax.nn.softmax(output) for output in outputs]
    expected = jax.nn.softmax(sum(outputs) / 2)
    np.testing.assert_allclose(got["prediction"], expected, atol=1e-5)
    np.testing.assert_array_equal(got["label"], np.argmax(expected, -1))
    entropy = np.mean([scipy_entropy(p, axis=-1) for p in each], axis=0)
    np.testing.assert_allclose(got["member_entropy"], entropy, atol=1e-4)


@pytest.mark.parametrize("views_name", ["none", "flips"])
def test_the_mean_of_values_is_taken_in_their_units(views_name):
    data = TaskData((), axes=2, channels=1, target_channels=2)
    model = UNet((2, 4), padding="SAME", outputs=2)
    members, (image,) = make_members(model, 2), make_images()
    scales = [[[5.0, -2.0], [2.0, 4.0]], [[-90.0, 1e3], [0.0, 70.0]]]
    chosen = {"task": tasks.regression(data, units="own")}
    alone = [
        predict(model, [member], [image], views=getattr(views, views_name)(2), **chosen)
        for member in members
    ]
    inferred = make_inference(model, scales=scales, **chosen)
    read = [lambda box: image[tuple(box)]]
    (got,) = inferred.predict_images(
        members, image.shape[:-1], read, views=getattr(views, views_name)(2)
    )
    each = [
        one["prediction"] * np.array(width) + np.array(offset)
        for (one,), (offset, width) in zip(alone, scales, strict=True)
    ]
    np.testing.assert_allclose(got["prediction"], sum(each) / 2, rtol=1e-5, atol=1e-4)


def test_blended_logits_are_completed_once():
    """Equal tiles give the softmax of the logits."""
    model = UNet((2, 4), padding="SAME", outputs=4)
    members = make_members(model)
    image = np.full((40, 24, 1), 0.5, np.float32)
    task = tasks.semantic(DATA, average="logits")
    options = {"task": task, "edges": (16, 24), "even": True}
    inferred = make_inference(model, **options)
    read = [lambda box: image[tuple(box)]]
    (got,) = inferred.predict_images(members, (40, 24), read, request=ALL)
    assert got["prediction"].shape == (40, 24, 4)
    np.testing.assert_allclose(got["prediction"].sum(-1), 1, atol=1e-5)
    middle = np.asarray(jax.nn.softmax(model.apply(members[0], image[None, :16])[0]))
    np.testing.assert_allclose(got["prediction"][0, 12], middle[0, 12], atol=1e-2)
