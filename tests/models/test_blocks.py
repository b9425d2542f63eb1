"""The fast forms equal the textbook ones, and every number is checked by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models import blocks


@pytest.fixture(params=[(6, 8), (4, 6, 2)], ids=["2d", "3d"])
def image(request):
    return jax.random.normal(jax.random.key(0), (2, *request.param, 3))


def uneven(image):
    """Strides that differ between the axes and divide the sizes of `image`."""
    return (2, 4) if image.ndim == 4 else (4, 3, 1)


def initialised(module, *inputs, **kwargs):
    """The output of a module and its parameters, with noise on biases and scales."""
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
def test_max_pool_and_its_gradient(image, even):
    """The same pixel wins, also among equals, of which a ReLU leaves many."""
    strides = (2,) * (image.ndim - 2) if even else uneven(image)

    def gradient(pool):
        loss = lambda x: (pool(jax.nn.relu(x)) ** 3).sum()  # noqa: E731
        return jax.value_and_grad(loss)(jnp.round(image * 2) / 2)

    ours = gradient(lambda x: blocks.max_pool(x, (2,) if even else strides))
    theirs = gradient(lambda x: nn.max_pool(x, window_shape=strides, strides=strides))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_pooling_passes_nan_on():
    image = jnp.array([1.0, jnp.nan, jnp.nan, 1.0, 0.0, 1.0]).reshape(1, 6, 1)
    pooled = blocks.max_pool(image, (2,)).ravel()
    np.testing.assert_array_equal(pooled, [np.nan, np.nan, 1.0])


def test_average_pool_is_a_mean(image):
    strides = uneven(image)
    theirs = nn.avg_pool(image, window_shape=strides, strides=strides)
    np.testing.assert_allclose(blocks.average_pool(image, strides), theirs, rtol=1e-5)


@pytest.mark.parametrize("even", [True, False])
def test_up_convolution_is_a_transposed_convolution(image, even):
    strides = (2,) * (image.ndim - 2) if even else uneven(image)
    ours = blocks.UpConv(5) if even else blocks.UpConv(5, strides=strides)
    got, params = initialised(ours, image)
    theirs = nn.ConvTranspose(5, strides, strides, transpose_kernel=True)
    kernel = params["kernel"].reshape(3, *strides, 5)
    kernel = jnp.moveaxis(kernel, 0, -1)  # transpose_kernel wants [*strides, out, in]
    expected = theirs.apply(
        {"params": {"kernel": kernel, "bias": params["bias"]}}, image
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_convolution_of_two_inputs_is_that_of_their_concatenation(image, padding):
    image = jnp.concatenate([image, image], axis=-2)  # VALID needs 3 pixels an axis
    other = jax.random.normal(jax.random.key(2), (*image.shape[:-1], 4))
    got, params = initialised(blocks.Conv(5, (3,), padding), image, other)
    theirs = nn.Conv(5, (3,) * (image.ndim - 2), padding=padding)
    expected = theirs.apply(
        {"params": params}, jnp.concatenate([image, other], axis=-1)
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_strided_convolution_is_centred_on_every_other_pixel(image):
    """Padding is symmetric, as in PyTorch: output i sees 2 i - 1, 2 i and 2 i + 1."""
    strides, sizes = uneven(image), (1, 5, 3)[: image.ndim - 2]
    got, params = initialised(blocks.Conv(5, sizes, strides=strides), image)
    ends = [(size // 2, size // 2) for size in sizes]
    theirs = nn.Conv(5, sizes, strides, padding=ends)
    expected = theirs.apply({"params": params}, image)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got.shape[1:-1] == tuple(
        n // s for n, s in zip(image.shape[1:-1], strides, strict=True)
    )


@pytest.mark.parametrize("even", [True, False])
def test_interpolations(image, even):
    strides = (2,) * (image.ndim - 2) if even else uneven(image)
    given = (2,) if even else strides
    size = (n * s for n, s in zip(image.shape[1:-1], strides, strict=True))
    shape = (2, *size, 3)
    linear = jax.image.resize(image, shape, "linear")
    nearest = jax.image.resize(image, shape, "nearest")
    np.testing.assert_allclose(blocks.upsample_linear(image, given), linear, atol=1e-6)
    np.testing.assert_array_equal(blocks.upsample_nearest(image, given), nearest)


def test_an_interpolation_is_followed_by_a_convolution(image):
    strides, sizes = uneven(image), (1, 3, 5)[: image.ndim - 2]
    module = blocks.UpConv(5, "nearest", strides=strides, kernel_size=sizes)
    got, params = initialised(module, image)
    assert params["Conv_0"]["kernel"].shape == (*sizes, 3, 5)
    expected = nn.Conv(5, sizes).apply(
        {"params": params["Conv_0"]}, blocks.upsample_nearest(image, strides)
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_initialisation_is_the_papers():
    """N(0, sqrt(2 / N)), N the incoming nodes: 9 * 64 for the paper's own example."""
    image = jnp.zeros((1, 8, 8, 64))
    conv = blocks.Conv(128).init(jax.random.key(0), image)["params"]["kernel"]
    assert np.std(conv) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    up = blocks.UpConv(32).init(jax.random.key(0), image)["params"]["kernel"]
    assert np.std(up) == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    # normal, not truncated: some 0.27 % lie beyond three deviations
    assert np.mean(np.abs(conv) > 3 * np.std(conv)) == pytest.approx(0.0027, rel=0.3)


def test_dropout_belongs_to_the_example():
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


def test_dropout_zeroes_as_often_as_its_rate_says():
    drop = blocks.Dropout(0.2)
    x, seed = jnp.ones((2, 64, 64, 4)), jnp.arange(2)
    y = drop.apply({}, x, seed, train=True, rngs={"dropout": jax.random.key(0)})
    assert (y == 0).mean() == pytest.approx(0.2, abs=0.01)
    assert y.max() == pytest.approx(1.25)


def normalised(x, groups):
    """Zero mean and unit variance over space and the channels of each group."""
    groups = np.asarray(x, "f8").reshape(len(x), -1, groups, x.shape[-1] // groups)
    mean, deviation = (f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.std))
    return ((groups - mean) / deviation).reshape(x.shape)


def test_instance_norm_normalises_each_image_and_channel(image):
    image = 5 * image + 3
    got = blocks.Normalization("instance")
    got, _ = got.init_with_output(jax.random.key(0), image, train=True)
    np.testing.assert_allclose(got, normalised(image, 3), atol=1e-4)


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 4), (3, 1)])
def test_group_norm_has_eight_groups_or_fewer(channels, groups):
    image = 5 * jax.random.normal(jax.random.key(0), (2, 6, 5, channels)) + 3
    norm = blocks.Normalization("group")
    got, _ = norm.init_with_output(jax.random.key(0), image, train=True)
    np.testing.assert_allclose(got, normalised(image, groups), atol=1e-4)


def test_batch_norm_keeps_nine_tenths_of_its_running_statistics(image):
    norm = blocks.Normalization("batch")
    variables = norm.init(jax.random.key(0), image, train=False)
    _, updates = norm.apply(variables, image, train=True, mutable=["batch_stats"])
    stats = updates["batch_stats"]["BatchNorm_0"]
    axes = tuple(range(image.ndim - 1))
    np.testing.assert_allclose(stats["mean"], 0.1 * image.mean(axes), atol=1e-6)
    variance = 0.9 * 1 + 0.1 * image.var(axes)
    np.testing.assert_allclose(stats["var"], variance, rtol=1e-5)


def test_attention_scales_the_skip():
    """alpha = sigmoid(psi relu(W_x x + W_g g + b) + b'), of half as many channels."""
    skip = jax.random.normal(jax.random.key(0), (2, 3, 4, 6))
    gate = jax.random.normal(jax.random.key(1), (2, 3, 4, 5))
    got, params = initialised(blocks.AttentionGate(), skip, gate)
    skip, gate = np.asarray(skip), np.asarray(gate)
    project, score = params["project"], params["score"]
    assert project["kernel"].shape == (1, 1, 6 + 5, 3)
    w_x, w_g = project["kernel"][0, 0, :6], project["kernel"][0, 0, 6:]
    q = np.maximum(skip @ w_x + gate @ w_g + project["bias"], 0)
    alpha = 1 / (1 + np.exp(-(q @ score["kernel"][0, 0] + score["bias"])))
    np.testing.assert_allclose(got, skip * alpha, rtol=1e-5, atol=1e-6)


def conv(params, x, size=3, strides=1, padding="SAME"):
    """A plain Flax convolution with parameters of ours."""
    kernel = params["kernel"]
    sizes, bias = (size,) * (x.ndim - 2), "bias" in params
    module = nn.Conv(kernel.shape[-1], sizes, strides, padding, use_bias=bias)
    return np.asarray(module.apply({"params": params}, x))


def norm(params, x):
    learnt = params["GroupNorm_0"]
    return normalised(x, x.shape[-1]) * learnt["scale"] + learnt["bias"]


def test_a_block_is_convolutions_with_norm_and_activation(image):
    style = blocks.BlockOptions(norm="instance", conv_bias=True)
    block = blocks.Block(5, style, convolutions=3)
    got, params = initialised(block, (image,), True)
    x = image
    for i in range(3):
        assert "bias" in params[f"Conv_{i}"]
        x = np.maximum(
            norm(params[f"Normalization_{i}"], conv(params[f"Conv_{i}"], x)), 0
        )
    assert "Conv_3" not in params
    np.testing.assert_allclose(got, x, atol=1e-4)


@pytest.mark.parametrize("kind", ["none", "batch", "group", "instance"])
def test_a_norm_replaces_the_bias_unless_asked(image, kind):
    def biases(conv_bias):
        block = blocks.Block(5, blocks.BlockOptions(norm=kind, conv_bias=conv_bias))
        params = block.init(jax.random.key(0), (image,), True)["params"]
        return ["bias" in params[f"Conv_{i}"] for i in range(2)]

    assert biases(conv_bias=True) == [True, True]
    assert biases(conv_bias=False) == [kind == "none"] * 2


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_projected_shortcut_is_added_before_the_last_activation(padding):
    image = jax.random.normal(jax.random.key(0), (2, 7, 8, 3))
    block = blocks.Block(5, blocks.BlockOptions(padding), residual="projection")
    got, params = initialised(block, (image,), True)
    x = np.maximum(conv(params["Conv_0"], image, padding=padding), 0)
    x = conv(params["Conv_1"], x, padding=padding)
    short = conv(params["shortcut"], image, size=1)
    if padding == "VALID":
        short = short[:, 2:-2, 2:-2]
    np.testing.assert_allclose(got, np.maximum(x + short, 0), atol=1e-5)


@pytest.mark.parametrize("features", [3, 5])
def test_an_identity_is_averaged_over_the_stride_and_projected_to_new_channels(
    features,
):
    image = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))
    style = blocks.BlockOptions(norm="instance")
    block = blocks.Block(features, style, strides=(2, 2), residual="identity")
    got, params = initialised(block, (image,), True)
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


def test_a_time_goes_through_two_dense_layers_and_into_every_channel():
    time = jnp.array([3.0, 500.0])
    embedded, params = initialised(blocks.TimeEmbedding(8), time)
    silu = lambda x: x / (1 + np.exp(-x))  # noqa: E731
    dense = lambda p, x: x @ p["kernel"] + p["bias"]  # noqa: E731
    x = np.asarray(blocks.embed_sinusoids(time, 8))
    for i in range(2):
        assert params[f"Dense_{i}"]["bias"].shape == (4 * 8,)
        x = silu(dense(params[f"Dense_{i}"], x))
    np.testing.assert_allclose(embedded, x, rtol=1e-4, atol=1e-5)

    image = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))
    block = blocks.Block(5, blocks.BlockOptions(norm="instance"))
    got, params = initialised(block, (image,), True, embedded)
    y = norm(params["Normalization_0"], conv(params["Conv_0"], image))
    y = np.maximum(y + dense(params["time"], x)[:, None, None], 0)
    y = np.maximum(norm(params["Normalization_1"], conv(params["Conv_1"], y)), 0)
    np.testing.assert_allclose(got, y, atol=1e-4)
