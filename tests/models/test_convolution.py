"""Convolutions and their gradients, against XLA's own convolution in float64."""

import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from unet_jax import parallel
from unet_jax.models import blocks
from unet_jax.models.convolution import convolve, convolve_cpu, has_winograd_gain

# shape of the image [B, *S, C], shape of the kernel [*K, C, features], zeros
WINOGRAD = [
    ((2, 9, 6, 64), (3, 3, 64, 70), (1, 1)),
    ((2, 10, 9, 64), (3, 3, 64, 64), (0, 0)),
    ((3, 3, 8, 64), (3, 3, 64, 64), (1, 1)),  # three rows: less than a tile
    ((2, 7, 8, 64), (3, 3, 64, 64), (2, 0)),
    ((2, 6, 7, 64), (3, 3, 64, 64), (4, 3)),  # more zeros than the kernel is wide
    ((1, 8, 9, 40), (3, 5, 40, 40), (1, 2)),
    ((1, 6, 5, 7, 24), (3, 3, 3, 24, 22), (1, 1, 1)),
    ((2, 7, 5, 6, 24), (3, 3, 3, 24, 22), (0, 2, 1)),
    ((2, 101, 192), (3, 192, 192), (1,)),
]
OTHERS = [
    ((2, 37, 6, 3), (3, 3, 3, 4), (1, 1)),  # several blocks of rows
    ((2, 9, 7, 3), (3, 3, 3, 4), (0, 0)),
    ((2, 9, 7, 3), (5, 5, 3, 4), (2, 2)),
    ((2, 9, 7, 3), (1, 1, 3, 4), (0, 0)),
    ((2, 9, 7, 3), (1, 3, 3, 4), (3, 1)),
    ((2, 9, 7, 3), (2, 4, 3, 4), (0, 1)),
    ((1, 2, 40, 64), (3, 3, 64, 64), (1, 1)),  # two rows
    ((1, 3, 9, 64), (3, 3, 64, 64), (0, 0)),  # one row of the output
    ((1, 4, 4, 64), (3, 3, 64, 64), (1, 1)),  # few pixels
    ((1, 9, 9, 64), (5, 5, 64, 64), (2, 2)),  # no three taps
    ((2, 5, 6, 7, 3), (3, 3, 3, 3, 4), (1, 1, 1)),
    ((2, 5, 6, 7, 3), (1, 3, 3, 3, 4), (0, 1, 1)),
    ((1, 5, 6, 7, 3), (5, 3, 1, 3, 4), (2, 0, 0)),
    ((2, 5, 6, 7, 3), (3, 3, 3, 3, 4), (3, 1, 4)),
    ((2, 23, 3), (5, 3, 4), (2,)),
    ((2, 23, 3), (3, 3, 4), (0,)),
]
EMPTY = [
    ((0, 9, 7, 64), (3, 3, 64, 64), (1, 1)),
    ((0, 5, 6, 7, 3), (3, 3, 3, 3, 4), (1, 1, 1)),
    ((2, 2, 7, 3), (3, 3, 3, 4), (0, 0)),
    ((2, 1, 4, 4, 3), (3, 3, 3, 3, 4), (0, 0, 0)),
]
IMAGE, KERNEL, ZEROS = WINOGRAD[0]
# Rounding errors, as a fraction of the largest value.
PLAIN_ERROR, WINOGRAD_ERROR = 2e-6, 1e-5


def draw(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("f4") for shape in shapes]


def call_xla(x, kernel, zeros):
    spatial = "XYZ"[: x.ndim - 2]
    layout = f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"
    ends = [(n, n) for n in zeros]
    ones = (1,) * len(zeros)
    return lax.conv_general_dilated(x, kernel, ones, ends, dimension_numbers=layout)


def call_ours(x, kernel, zeros):
    return convolve(x, kernel, strides=(1,) * len(zeros), zeros=zeros)


def differentiate(function, x, kernel):
    """Returns a value, and the gradients of its product with fixed random numbers."""
    y, pull = jax.vjp(function, x, kernel)
    return y, *pull(jnp.asarray(draw(y.shape)[0], y.dtype))


def compute_oracle(x, kernel, zeros):
    with jax.enable_x64(True):
        arrays = (jnp.asarray(a, jnp.float64) for a in (x, kernel))
        return differentiate(partial(call_xla, zeros=zeros), *arrays)


def assert_close(got, expected, error):
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        limit = error * np.abs(b).max(initial=0)
        np.testing.assert_allclose(np.asarray(a, "f8"), b, rtol=0, atol=limit)


def count_convolutions(x, kernel, zeros, *, gradient):
    """Returns the number of XLA's convolutions that `convolve` consists of."""
    function = partial(call_ours, zeros=zeros)
    if gradient:
        function = partial(differentiate, function)
    return str(jax.make_jaxpr(function)(x, kernel)).count("conv_general_dilated[")


@pytest.mark.parametrize(("image", "kernel", "zeros"), WINOGRAD, ids=str)
def test_value_and_gradients_with_winograd(image, kernel, zeros):
    x, k = draw(image, kernel)
    expected = compute_oracle(x, k, zeros)
    assert has_winograd_gain(kernel, expected[0].shape)
    got = jax.jit(partial(differentiate, partial(call_ours, zeros=zeros)))(x, k)
    assert_close(got, expected, WINOGRAD_ERROR)


@pytest.mark.parametrize(("image", "kernel", "zeros"), OTHERS + EMPTY, ids=str)
def test_value_and_gradients(image, kernel, zeros):
    x, k = draw(image, kernel)
    expected = compute_oracle(x, k, zeros)
    assert not has_winograd_gain(kernel, expected[0].shape)
    got = jax.jit(partial(differentiate, partial(call_ours, zeros=zeros)))(x, k)
    assert_close(got, expected, PLAIN_ERROR)


@pytest.mark.parametrize(
    ("image", "kernel", "zeros"), [WINOGRAD[0], WINOGRAD[1], *OTHERS[:3]], ids=str
)
def test_an_image_without_a_gradient_has_the_bits_of_xla(image, kernel, zeros):
    x, k = draw(image, kernel)
    got, expected = (jax.jit(f, static_argnums=2) for f in (call_ours, call_xla))
    np.testing.assert_array_equal(got(x, k, zeros), expected(x, k, zeros))


def test_the_formulation_follows_from_the_type_the_size_and_the_gradient():
    x, k = draw(IMAGE, KERNEL)
    assert count_convolutions(x, k, ZEROS, gradient=False) == 1
    assert count_convolutions(x, k, ZEROS, gradient=True) == 3 * 6
    few = x[..., :8], k[..., :8, :]
    assert count_convolutions(*few, ZEROS, gradient=True) == 3
    tall = np.zeros((1, 40, 8, 8), "f4"), few[1]
    assert count_convolutions(*tall, ZEROS, gradient=True) == 2 + 3  # blocks
    volume, cube = np.zeros((1, 8, 8, 8, 4), "f4"), np.zeros((3, 3, 3, 4, 4), "f4")
    assert count_convolutions(volume, cube, (1, 1, 1), gradient=True) == 3 * 3


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_other_types_and_strides_take_the_plain_formulation(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        x, k = (jnp.asarray(a, dtype) for a in draw(IMAGE, KERNEL))
        assert count_convolutions(x, k, ZEROS, gradient=True) == 3
        got = differentiate(partial(call_ours, zeros=ZEROS), x, k)
        expected = differentiate(partial(call_xla, zeros=ZEROS), x, k)
        assert all(a.dtype == dtype for a in got)
        jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_another_platform_takes_the_plain_formulation(monkeypatch):
    x, k = draw(IMAGE, KERNEL)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert count_convolutions(x, k, ZEROS, gradient=True) == 3


def wrap_vmap(function):
    """Maps over the examples of a batch."""
    return jax.vmap(lambda one, kernel: function(one[None], kernel)[0], (0, None))


def wrap_vmap_of_kernels(function):
    return lambda x, kernel: jax.vmap(function)(x[None], kernel[None])[0]


def wrap_remat(function):
    """Recomputes in the backward pass what the forward pass computed."""
    return jax.checkpoint(lambda x, kernel: jnp.sin(function(x, kernel)) ** 2)


@pytest.mark.parametrize("wrap", [wrap_vmap, wrap_vmap_of_kernels, wrap_remat])
@pytest.mark.parametrize("case", [WINOGRAD[0], OTHERS[0], OTHERS[10]], ids=str)
def test_transformations(wrap, case):
    image, kernel, zeros = case
    x, k = draw(image, kernel)
    k /= np.sqrt(np.prod(kernel[:-1]))  # so that sin does not amplify the rounding
    got, expected = (
        jax.jit(partial(differentiate, wrap(partial(f, zeros=zeros))))(x, k)
        for f in (call_ours, call_xla)
    )
    assert_close(got, expected, 2 * WINOGRAD_ERROR)


def test_the_gradient_of_a_gradient():
    x, k = draw(IMAGE, KERNEL)

    def find_slope(function, x, k):
        inner = jax.grad(lambda k: jnp.sum(function(x, k, zeros=ZEROS) ** 2))
        return jax.grad(lambda x: jnp.sum(inner(k)[0, 0] * 1e-3))(x)

    got, expected = (
        jax.jit(partial(find_slope, f))(x, k) for f in (call_ours, call_xla)
    )
    assert_close([got], [expected], 2 * WINOGRAD_ERROR)


@pytest.mark.parametrize("lifted", [nn.remat, nn.jit])
def test_lifted_modules(lifted):
    (x,) = draw(IMAGE)
    plain = blocks.Conv(64)
    variables = plain.init(jax.random.key(0), x)
    loss = lambda conv, v: jnp.sum(conv.apply(v, x) ** 2)  # noqa: E731
    got, expected = (
        jax.jit(jax.grad(partial(loss, conv)))(variables)["params"]
        for conv in (lifted(blocks.Conv)(64), plain)
    )
    assert_close(got.values(), expected.values(), PLAIN_ERROR)


def update(state, batch, key, axis_name=None):
    """A step for a layout: returns the gradients, and the mean loss."""

    def loss(state):
        y = call_ours(batch["image"], state["kernel"], ZEROS)
        return jnp.mean(y**2)

    value, gradient = jax.value_and_grad(loss)(state)
    if axis_name:
        value, gradient = lax.pmean((value, gradient), axis_name)
    return gradient, value


@pytest.mark.parametrize(
    "make",
    [parallel.pmap, parallel.mesh, partial(parallel.mesh, space=4)],
    ids=["pmap", "mesh", "space"],
)
@pytest.mark.parametrize("channels", [2, 64])
def test_devices_share_a_batch_and_images(make, channels):
    """The devices exchange borders and add gradients, and do not gather images."""
    layout = make()
    x, kernel = draw((8, 32, 18, channels), (3, 3, channels, channels))
    state = layout.put_state({"kernel": kernel})
    batch = layout.put_batch({"image": x})
    step = layout.compile_train(update)
    program = step.lower(state, batch, jax.random.key(0)).compile().as_text()
    found = set(
        re.findall(
            r" (all-gather|all-to-all|all-reduce|collective-permute)(?:-start)?\(",
            program,
        )
    )
    borders = {"collective-permute"} if layout.space > 1 else set()
    assert found == {"all-reduce"} | borders
    # The formulations for CPUs are for images that are not divided.
    assert program.count(" convolution(") == (
        2 if layout.space > 1 else 12 if channels > 2 else 3
    )
    gradient, value = step(state, batch, jax.random.key(0))

    def loss(kernel):
        return jnp.mean(call_xla(x, kernel, ZEROS) ** 2)

    expected = jax.jit(jax.value_and_grad(loss))(kernel)
    assert_close((value, gradient["kernel"]), expected, WINOGRAD_ERROR)


def test_the_gradient_of_a_kernel_does_not_compute_that_of_the_image():
    x, k = draw(IMAGE, KERNEL)
    loss = lambda k: jnp.sum(convolve_cpu(x, k, ZEROS))  # noqa: E731
    program = jax.jit(jax.grad(loss)).lower(k).compile().as_text()
    assert program.count(" convolution(") == 6  # and the value is not needed
