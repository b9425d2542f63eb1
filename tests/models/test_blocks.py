"""Blocks against their textbook forms and against values computed by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models import blocks, resizing


@pytest.fixture(params=[(6, 8), (4, 6, 2)], ids=["2d", "3d"])
def image(request):
    return jax.random.normal(jax.random.key(0), (2, *request.param, 3))


def get_uneven_strides(image):
    """Returns strides that differ between the axes and divide the sizes of `image`."""
    return (2, 4) if image.ndim == 4 else (4, 3, 1)


def init_and_apply(module, *inputs, **kwargs):
    """Returns the output of a module and its parameters, with noise on all of them."""
    variables = module.init(jax.random.key(1), *inputs, **kwargs)
    leaves, tree = jax.tree.flatten(variables)
    noise = jax.random.split(jax.random.key(2), len(leaves))
    leaves = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, noise, strict=True)
    ]
    variables = jax.tree.unflatten(tree, leaves)
    output = module.apply(variables, *inputs, **kwargs)
    return np.asarray(output), jax.tree.map(np.asarray, variables["params"])


@pytest.mark.parametrize("even", [True, False])
def test_up_convolution_is_a_transposed_convolution(image, even):
    strides = (2,) * (image.ndim - 2) if even else get_uneven_strides(image)
    ours = blocks.UpConv(5) if even else blocks.UpConv(5, strides=strides)
    got, params = init_and_apply(ours, image)
    theirs = nn.ConvTranspose(5, strides, strides, transpose_kernel=True)
    kernel = params["kernel"].reshape(3, *strides, 5)
    kernel = jnp.moveaxis(kernel, 0, -1)  # transpose_kernel needs [*strides, out, in]
    expected = theirs.apply(
        {"params": {"kernel": kernel, "bias": params["bias"]}}, image
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_convolution_of_two_inputs_is_that_of_their_concatenation(image, padding):
    image = jnp.concatenate([image, image], axis=-2)  # VALID needs 3 pixels per axis
    other = jax.random.normal(jax.random.key(2), (*image.shape[:-1], 4))
    got, params = init_and_apply(blocks.Conv(5, (3,), padding), image, other)
    theirs = nn.Conv(5, (3,) * (image.ndim - 2), padding=padding)
    expected = theirs.apply(
        {"params": params}, jnp.concatenate([image, other], axis=-1)
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_padding_of_a_strided_convolution_is_symmetric(image):
    """As in PyTorch: with stride 2, output i reads pixels 2 i - 1, 2 i and 2 i + 1."""
    strides, sizes = get_uneven_strides(image), (1, 5, 3)[: image.ndim - 2]
    got, params = init_and_apply(blocks.Conv(5, sizes, strides=strides), image)
    ends = [(size // 2, size // 2) for size in sizes]
    theirs = nn.Conv(5, sizes, strides, padding=ends)
    expected = theirs.apply({"params": params}, image)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got.shape[1:-1] == tuple(
        n // s for n, s in zip(image.shape[1:-1], strides, strict=True)
    )


def test_an_interpolation_is_followed_by_a_convolution(image):
    strides, sizes = get_uneven_strides(image), (1, 3, 5)[: image.ndim - 2]
    module = blocks.UpConv(5, "nearest", strides=strides, kernel_size=sizes)
    got, params = init_and_apply(module, image)
    assert params["Conv_0"]["kernel"].shape == (*sizes, 3, 5)
    expected = nn.Conv(5, sizes).apply(
        {"params": params["Conv_0"]}, resizing.upsample_nearest(image, strides)
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_an_interpolation_without_a_convolution_keeps_the_channels(image):
    strides = get_uneven_strides(image)
    module = blocks.UpConv(5, "aligned", strides=strides, convolved=False)
    variables = module.init(jax.random.key(1), image)
    assert not variables
    expected = resizing.upsample_aligned(image, strides)
    np.testing.assert_array_equal(module.apply(variables, image), expected)


def test_a_head_with_a_kernel_is_a_convolution(image):
    got, params = init_and_apply(blocks.Head(5, kernel_size=3), image)
    expected = nn.Conv(5, (3,) * (image.ndim - 2)).apply({"params": params}, image)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_hidden_channels_are_those_between_the_convolutions(image):
    block = blocks.Block(5, convolutions=3, hidden=4)
    _, params = init_and_apply(block, (image,), False)
    shapes = [params[f"Conv_{i}"]["kernel"].shape[-2:] for i in range(3)]
    assert shapes == [(3, 4), (4, 4), (4, 5)]


def test_the_head_computes_logits_in_float32(image):
    got, params = init_and_apply(blocks.Head(5), image)
    assert got.dtype == np.float32
    kernel = params["kernel"].astype("f8").reshape(3, 5)
    expected = np.asarray(image, "f8") @ kernel + params["bias"]
    np.testing.assert_allclose(got, expected, atol=1e-6 * np.abs(expected).max())


def test_the_head_of_bfloat16_rounds_its_inputs_only(image):
    got, params = init_and_apply(blocks.Head(5, jnp.bfloat16), image)
    assert got.dtype == np.float32
    x, kernel = (
        np.asarray(a.astype(jnp.bfloat16), "f8") for a in (image, params["kernel"])
    )
    expected = x @ kernel.reshape(3, 5) + params["bias"]
    np.testing.assert_allclose(got, expected, atol=1e-6 * np.abs(expected).max())


def test_initialisation_follows_the_paper():
    """N(0, sqrt(2 / N)), N the incoming nodes: 9 * 64 for the paper's own example."""
    image = jnp.zeros((1, 8, 8, 64))
    conv = blocks.Conv(128).init(jax.random.key(0), image)["params"]["kernel"]
    assert np.std(conv) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    up = blocks.UpConv(32).init(jax.random.key(0), image)["params"]["kernel"]
    assert np.std(up) == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    # Normal, not truncated: 0.27% lie beyond three standard deviations.
    assert np.mean(np.abs(conv) > 3 * np.std(conv)) == pytest.approx(0.0027, rel=0.3)


def test_the_dropout_mask_depends_on_the_seed_of_the_example():
    x = jnp.ones((4, 8, 8, 16))
    seed = jnp.array([7, 8, 9, 7], jnp.uint32)
    drop = lambda x, seed: blocks.Dropout(0.5).apply(  # noqa: E731
        {}, x, seed, train=True, rngs={"dropout": jax.random.key(0)}
    )
    whole = drop(x, seed)
    np.testing.assert_array_equal(whole[:2], drop(x[:2], seed[:2]))
    np.testing.assert_array_equal(whole[0], whole[3])
    assert not np.array_equal(whole[0], whole[1])
    assert set(np.unique(whole)) == {0.0, 2.0}
    assert whole.mean() == pytest.approx(1.0, abs=0.05)


def test_dropout_zeroes_at_its_rate():
    drop = blocks.Dropout(0.2)
    x, seed = jnp.ones((2, 64, 64, 4)), jnp.arange(2)
    y = drop.apply({}, x, seed, train=True, rngs={"dropout": jax.random.key(0)})
    assert (y == 0).mean() == pytest.approx(0.2, abs=0.01)
    assert y.max() == pytest.approx(1.25)


def normalise(x, groups):
    """Normalises over space and the channels of each group."""
    groups = np.asarray(x, "f8").reshape(len(x), -1, groups, x.shape[-1] // groups)
    mean, variance = (f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    return ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)


def test_instance_norm_normalises_each_image_and_channel(image):
    image = 5 * image + 3
    got = blocks.Normalization("instance")
    got, _ = got.init_with_output(jax.random.key(0), image, train=True)
    np.testing.assert_allclose(got, normalise(image, 3), atol=1e-4)


@pytest.mark.parametrize("kind", ["batch", "group", "instance"])
def test_norms_add_a_hundred_thousandth_to_the_variance(kind):
    """As in PyTorch. Two pixels of -0.001 and 0.001 have the variance 1e-6."""
    image = jnp.array([-1e-3, 1e-3]).reshape(1, 2, 1, 1)
    norm = blocks.Normalization(kind)
    got, _ = norm.init_with_output(jax.random.key(0), image, train=True)
    np.testing.assert_allclose(np.abs(got), 1e-3 / np.sqrt(1e-6 + 1e-5), rtol=1e-4)


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 4), (3, 1)])
def test_group_norm_has_eight_groups_or_fewer(channels, groups):
    image = 5 * jax.random.normal(jax.random.key(0), (2, 6, 5, channels)) + 3
    norm = blocks.Normalization("group")
    got, _ = norm.init_with_output(jax.random.key(0), image, train=True)
    np.testing.assert_allclose(got, normalise(image, groups), atol=1e-4)


def test_batch_norm_keeps_nine_tenths_of_its_running_statistics(image):
    norm = blocks.Normalization("batch")
    variables = norm.init(jax.random.key(0), image, train=False)
    _, updates = norm.apply(variables, image, train=True, mutable=["batch_stats"])
    stats = updates["batch_stats"]["BatchNorm_0"]
    axes = tuple(range(image.ndim - 1))
    np.testing.assert_allclose(stats["mean"], 0.1 * image.mean(axes), atol=1e-6)
    variance = 0.9 * 1 + 0.1 * image.var(axes)
    np.testing.assert_allclose(stats["var"], variance, rtol=1e-5)


@pytest.mark.slow
def test_attention_scales_the_skip():
    """alpha = sigmoid(psi relu(W_x x + W_g g + b) + b'), of half as many channels."""
    skip = jax.random.normal(jax.random.key(0), (2, 3, 4, 6))
    gate = jax.random.normal(jax.random.key(1), (2, 3, 4, 5))
    got, params = init_and_apply(blocks.AttentionGate(), skip, gate)
    skip, gate = np.asarray(skip), np.asarray(gate)
    project, score = params["project"], params["score"]
    assert project["kernel"].shape == (1, 1, 6 + 5, 3)
    w_x, w_g = project["kernel"][0, 0, :6], project["kernel"][0, 0, 6:]
    q = np.maximum(skip @ w_x + gate @ w_g + project["bias"], 0)
    alpha = 1 / (1 + np.exp(-(q @ score["kernel"][0, 0] + score["bias"])))
    np.testing.assert_allclose(got, skip * alpha, rtol=1e-5, atol=1e-6)


def conv(params, x, size=3, strides=1, padding="SAME"):
    """Applies a Flax convolution with the parameters of our module."""
    kernel = params["kernel"]
    sizes, bias = (size,) * (x.ndim - 2), "bias" in params
    module = nn.Conv(kernel.shape[-1], sizes, strides, padding, use_bias=bias)
    return np.asarray(module.apply({"params": params}, x))


def norm(params, x):
    learnt = params["GroupNorm_0"]
    return normalise(x, x.shape[-1]) * learnt["scale"] + learnt["bias"]


def test_a_block_is_convolutions_with_norm_and_activation(image):
    options = blocks.BlockOptions(norm="instance", conv_bias=True)
    block = blocks.Block(5, options, convolutions=3)
    got, params = init_and_apply(block, (image,), True)
    x = image
    for i in range(3):
        assert "bias" in params[f"Conv_{i}"]
        x = np.maximum(
            norm(params[f"Normalization_{i}"], conv(params[f"Conv_{i}"], x)), 0
        )
    assert "Conv_3" not in params
    np.testing.assert_allclose(got, x, atol=1e-4)


@pytest.mark.parametrize("kind", ["none", "batch", "group", "instance"])
def test_a_norm_replaces_the_bias_unless_conv_bias_is_set(image, kind):
    def list_biases(conv_bias):
        block = blocks.Block(5, blocks.BlockOptions(norm=kind, conv_bias=conv_bias))
        params = block.init(jax.random.key(0), (image,), True)["params"]
        return ["bias" in params[f"Conv_{i}"] for i in range(2)]

    assert list_biases(conv_bias=True) == [True, True]
    assert list_biases(conv_bias=False) == [kind == "none"] * 2


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_projected_shortcut_is_added_before_the_last_activation(padding):
    image = jax.random.normal(jax.random.key(0), (2, 7, 8, 3))
    block = blocks.Block(5, blocks.BlockOptions(padding), residual="projection")
    got, params = init_and_apply(block, (image,), True)
    x = np.maximum(conv(params["Conv_0"], image, padding=padding), 0)
    x = conv(params["Conv_1"], x, padding=padding)
    short = conv(params["shortcut"], image, size=1)
    if padding == "VALID":
        short = short[:, 2:-2, 2:-2]
    np.testing.assert_allclose(got, np.maximum(x + short, 0), atol=1e-5)


@pytest.mark.parametrize("features", [3, 5])
def test_an_identity_shortcut_is_averaged_and_projected_to_new_channels(
    features,
):
    image = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))
    options = blocks.BlockOptions(norm="instance")
    block = blocks.Block(features, options, strides=(2, 2), residual="identity")
    got, params = init_and_apply(block, (image,), True)
    x = conv(params["Conv_0"], image, strides=2, padding=[(1, 1)] * 2)
    x = np.maximum(norm(params["Normalization_0"], x), 0)
    x = norm(params["Normalization_1"], conv(params["Conv_1"], x))
    short = np.asarray(image).reshape(2, 3, 2, 4, 2, 3).mean((2, 4))
    assert ("shortcut" in params) == ("shortcut_norm" in params) == (features != 3)
    if features != 3:
        assert "bias" not in params["shortcut"]
        short = norm(params["shortcut_norm"], conv(params["shortcut"], short, size=1))
    np.testing.assert_allclose(got, np.maximum(x + short, 0), atol=1e-4)


def test_sinusoids_by_hand():
    """Angular frequencies 1, 1/10, 1/100 and 1/1000, the powers of 10^(-4/4)."""
    got = blocks.embed_sinusoids(jnp.array([0.0, 50.0]), 8)
    np.testing.assert_array_equal(got[0], [0, 0, 0, 0, 1, 1, 1, 1])
    angles = np.array([50, 5, 0.5, 0.05])
    expected = np.concatenate([np.sin(angles), np.cos(angles)])
    np.testing.assert_allclose(got[1], expected, atol=1e-5)


@pytest.mark.slow
def test_a_time_is_embedded_and_added_to_every_channel():
    time = jnp.array([3.0, 500.0])
    embedded, params = init_and_apply(blocks.TimeEmbedding(8), time)
    silu = lambda x: x / (1 + np.exp(-x))  # noqa: E731
    dense = lambda p, x: x @ p["kernel"] + p["bias"]  # noqa: E731
    x = np.asarray(blocks.embed_sinusoids(time, 8))
    for i in range(2):
        assert params[f"Dense_{i}"]["bias"].shape == (4 * 8,)
        x = silu(dense(params[f"Dense_{i}"], x))
    np.testing.assert_allclose(embedded, x, rtol=1e-4, atol=1e-5)

    image = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))
    block = blocks.Block(5, blocks.BlockOptions(norm="instance"))
    got, params = init_and_apply(block, (image,), True, embedded)
    y = norm(params["Normalization_0"], conv(params["Conv_0"], image))
    y = np.maximum(y + dense(params["time"], x)[:, None, None], 0)
    y = np.maximum(norm(params["Normalization_1"], conv(params["Conv_1"], y)), 0)
    np.testing.assert_allclose(got, y, atol=1e-4)
