import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.errors import UserError
from unet_jax.models import UNet
from unet_jax.models.blocks import TimeEmbedding


def count_by_hand(widths, channels, outputs, kernel=9, up=4):
    """Counts the parameters of figure 1: weights and a bias per convolution."""
    total, c = 0, channels
    for w in widths:
        total += (c * kernel + 1) * w + (w * kernel + 1) * w
        c = w
    for w in reversed(widths[:-1]):
        total += c * up * w + w  # the up-convolution halves the channels
        total += (2 * w * kernel + 1) * w + (w * kernel + 1) * w
        c = w
    return total + c * outputs + outputs


def count_parameters(model, *shape):
    """Counts the parameters for images of a shape, channels last."""
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


def test_the_network_of_the_paper():
    model, image = UNet(), jnp.zeros((1, 572, 572, 1))
    by_hand = count_by_hand((64, 128, 256, 512, 1024), 1, 2)
    assert count_parameters(model, 572, 572, 1) == by_hand == 31_030_658
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    logits = jax.eval_shape(model.apply, shapes, image)
    assert logits.shape == (1, 388, 388, 2)
    geometry = model.geometry(2)
    assert geometry.strides == ((1, 1), (2, 2), (4, 4), (8, 8), (16, 16))
    assert geometry.margin == (92, 92)
    assert geometry.halo == (107, 107)
    assert geometry.valid_shape((573, 1)) == (588, 188)
    assert geometry.strict


NNUNET = {
    "padding": "SAME",
    "norm": "instance",
    "conv_bias": True,
    "activation": "leaky_relu",
    "downsample": "conv",
    "dropout": 0.0,
    "deep_supervision": True,
}
IMAGES = NNUNET | {"widths": (32, 64, 128, 256, 512, 512), "outputs": 2}
VOLUMES = NNUNET | {"widths": (32, 64, 128, 256, 320, 320), "outputs": 3}
RESIDUAL = {
    "encoder": "residual",
    "encoder_depths": (1, 3, 4, 6, 6, 6),
    "decoder_depths": (1,),
}
FLAT = {  # for thick slices: no strides across them at either end
    "kernels": ((1, 3, 3), *((3, 3, 3),) * 5),
    "strides": ((1, 2, 2), *((2, 2, 2),) * 3, (1, 2, 2)),
}


@pytest.mark.parametrize(
    ("fields", "shape", "parameters"),
    [
        (IMAGES, (64, 64), 20_619_082),
        (IMAGES | RESIDUAL, (64, 64), 71_816_586),
        (VOLUMES, (32, 32, 32), 31_196_399),
        (VOLUMES | RESIDUAL, (32, 32, 32), 102_350_575),
        (VOLUMES | FLAT, (8, 32, 32), 30_704_303),
    ],
    ids=["plain-2d", "residual-2d", "plain-3d", "residual-3d", "flat-3d"],
)
def test_presets_of_nnunet_have_as_many_parameters(fields, shape, parameters):
    """The numbers are those of dynamic-network-architectures 0.4 in PyTorch."""
    model = UNet(**fields)
    assert model.fault() is None
    assert model.geometry(len(shape)).valid_shape(shape) == shape
    assert count_parameters(model, *shape, 1) == parameters


def init(model, image):
    """Initialises a compiled network; uncompiled, these tests would take minutes."""
    return jax.jit(model.init)(jax.random.key(1), image)


def apply(model, *args, **kwargs):
    return jax.jit(lambda *a: model.apply(*a, **kwargs))(*args)


VARIANTS = {
    "paper": {},
    "same": {"padding": "SAME", "norm": "batch"},
    "nearest": {"upsample": "nearest", "norm": "group"},
    "linear": {"upsample": "linear", "activation": "gelu"},
    "residual": {"padding": "SAME", "residual": True, "norm": "instance"},
    "attention": {"attention": True},
    "all": {
        "padding": "SAME",
        "residual": True,
        "attention": True,
        "upsample": "linear",
        "deep_supervision": True,
    },
    "strided": {"padding": "SAME", "downsample": "conv", "strides": ((3,),)},
    "blocks": {"padding": "SAME", "encoder": "residual", "encoder_depths": (1, 2)},
    "blocks without padding": {"encoder": "residual", "strides": ((3,),)},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(61, 50), (45, 46, 47)], ids=["2d", "3d"])
def test_any_size_and_any_number_of_axes(variant, shape):
    model = UNet((2, 4), outputs=3, **VARIANTS[variant])
    image = jnp.zeros((2, *shape, 2))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    heads = partial(model.apply, capture_intermediates=lambda m, _: m.name == "head0")
    logits, found = jax.eval_shape(heads, variables, image)
    geometry = model.geometry(len(shape))

    def remove_margin(shape):
        return tuple(n - 2 * m for n, m in zip(shape, geometry.margin, strict=True))

    assert logits.shape == (2, *remove_margin(shape), 3)
    assert logits.dtype == jnp.float32
    (head,) = found["intermediates"]["head0"]["__call__"]  # of the padded image
    assert head.shape == (2, *remove_margin(geometry.valid_shape(shape)), 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("upsample", "attention"), [("transpose", False), ("linear", True)]
)
def test_every_skip_reaches_the_output(upsample, attention):
    """With a silenced up-convolution, only the skip of its level carries the image."""
    model = UNet(
        (2, 3, 4), padding="SAME", upsample=upsample, attention=attention, dropout=0.0
    )
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    params = init(model, image)["params"]
    forward = jax.jit(lambda p, x: model.apply({"params": p}, x))
    gradient = jax.jit(jax.grad(lambda p: (forward(p, image) ** 2).sum()))(params)
    for level in (0, 1):
        width = model.widths[level]
        kernel = gradient[f"up{level}"]["Conv_0"]["kernel"]
        assert kernel.shape == (3, 3, 2 * width, width)
        assert np.abs(kernel[:, :, :width]).max() > 0  # the skip comes first
        assert np.abs(kernel[:, :, width:]).max() > 0

        silent = jax.tree.map(jnp.array, params)
        silent[f"upconv{level}"] = jax.tree.map(
            jnp.zeros_like, params[f"upconv{level}"]
        )
        # Everything from below is silenced, and the image still arrives by the skip.
        moved = forward(silent, image + 1.0) - forward(silent, image)
        assert np.abs(moved).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("upsample", ["transpose", "nearest", "linear"])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((76, 60), id="2d"),
        pytest.param((60, 50, 50), id="3d", marks=pytest.mark.slow),
    ],
)
def test_the_valid_output_does_not_depend_on_the_borders(upsample, shape):
    """A shift of the window by the coarsest stride shifts the output."""
    model = UNet((2, 3, 2), upsample=upsample)
    geometry = model.geometry(len(shape))
    shape = geometry.valid_shape(shape)
    image = jax.random.normal(jax.random.key(0), (1, *shape, 1))
    params = init(model, image)
    part = image[:, 4:]
    part = part[:, : geometry.valid_size(part.shape[1] - 3, axis=0)]
    whole, piece = apply(model, params, image), apply(model, params, part)
    size = np.abs(whole).max()
    np.testing.assert_allclose(
        whole[:, 4 : 4 + piece.shape[1]], piece, atol=1e-5 * size
    )


@pytest.mark.slow
def test_an_odd_size_is_padded_by_reflection():
    model = UNet((2, 3), padding="SAME")
    image = jax.random.normal(jax.random.key(0), (1, 9, 8, 1))
    params = init(model, image)
    padded = jnp.pad(image, [(0, 0), (0, 1), (0, 0), (0, 0)], mode="reflect")
    expected = apply(model, params, padded)[:, :9]
    np.testing.assert_allclose(apply(model, params, image), expected, atol=1e-5)


def test_too_small_an_image_raises_with_the_least_shape():
    with pytest.raises(ValueError, match=r"least shape is \(188, 188\)"):
        UNet((1,) * 5).init(jax.random.key(0), jnp.zeros((1, 184, 188, 1)))


@pytest.mark.slow
def test_remat_does_not_change_the_gradient():
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    plain = UNet((4, 8), padding="SAME", norm="group")
    remat = plain.clone(remat=True)
    params = init(plain, image)

    def gradient(model):
        loss = jax.grad(lambda p: (model.apply(p, image) ** 2).sum())
        return jax.jit(loss)(params), str(jax.make_jaxpr(loss)(params))

    (expected, without), (got, with_remat) = gradient(plain), gradient(remat)
    assert "remat" in with_remat
    assert "remat" not in without
    size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    close = partial(np.testing.assert_allclose, atol=1e-5 * size)
    jax.tree.map(close, got, expected)


def test_mixed_precision_keeps_parameters_and_logits_in_float32():
    model = UNet((4, 8), padding="SAME", norm="batch", dtype=jnp.bfloat16)
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    variables = init(model, image)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = apply(model, variables, image)
    exact = apply(model.clone(dtype=jnp.float32), variables, image)
    assert logits.dtype == jnp.float32
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def test_deep_supervision_returns_one_output_per_level():
    model = UNet((2, 4, 8), padding="SAME", deep_supervision=True)
    image = jnp.zeros((1, 32, 16, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    rngs = {"dropout": jax.random.key(0)}
    train = partial(model.apply, train=True, rngs=rngs)
    full, half = jax.eval_shape(train, variables, image)
    assert full.shape == (1, 32, 16, 2)
    assert half.shape == (1, 16, 8, 2)
    assert jax.eval_shape(model.apply, variables, image).shape == full.shape


HALOS = {
    "paper": ((2,) * 5, {"upsample": "transpose"}),
    "nearest": ((2,) * 3, {"upsample": "nearest"}),
    "linear": ((2,) * 3, {"upsample": "linear", "strides": ((3,), (2,))}),
    "strided": ((2,) * 3, {"downsample": "conv", "strides": ((1,), (4,))}),
    "shortcuts": (
        (2,) * 3,
        {"downsample": "conv", "strides": ((4,), (2,)), "residual": True},
    ),
    "blocks": (
        (2,) * 3,
        {
            "downsample": "conv",
            "encoder": "residual",
            "encoder_depths": (1, 2, 1),
            "decoder_depths": (1,),
        },
    ),
    "kernels": (
        (2,) * 3,
        {"kernels": ((5,), (3,), (1,)), "decoder_depths": (3, 1), "attention": True},
    ),
}


def make_positive(model, shape):
    """Returns positive weights and no biases, so that only lit pixels give outputs."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape, 1)))

    def fill(path, leaf):
        kernel = "kernel" in str(path[-1])
        return jnp.full(leaf.shape, 0.5 if kernel else 0.0, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def find_affected(model, shape, pixels):
    """Returns the first and last outputs that read each pixel: `[pixel, axis, 2]`."""
    images = np.zeros((len(pixels), *shape, 1), np.float32)
    for image, pixel in zip(images, pixels, strict=True):
        image[pixel] = 1.0
    outputs = np.asarray(apply(model, make_positive(model, shape), images))[..., 0]
    assert np.isfinite(outputs).all()
    affected = [np.argwhere(output > 0) for output in outputs]
    return np.array([[at.min(0), at.max(0)] for at in affected]).swapaxes(1, 2)


@pytest.mark.parametrize("variant", HALOS)
def test_halo_is_the_reach_of_a_pixel(variant):
    """The pixels of an image with a single axis are lit one by one."""
    widths, fields = HALOS[variant]
    model = UNet(widths, padding="SAME", **fields)
    geometry = model.geometry(1)
    (stride,), (halo,) = geometry.multiple, geometry.halo
    start = -(-halo // stride) * stride
    pixels = [(start + i,) for i in range(stride)]
    ends = find_affected(model, (2 * start + stride,), pixels)[:, 0]
    distances = np.abs(ends - np.array(pixels))
    assert distances.max() == halo
    assert halo > 5


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_halo_of_a_resnet(name):
    """Pixels are lit one by one, with positive weights that keep the numbers small."""
    model = UNet(
        padding="SAME", encoder=name, head_kernel=3, upsample="nearest", dropout=0.0
    )
    geometry = model.geometry(1)
    assert geometry.strides == ((1,), (2,), (4,), (8,), (16,), (32,))
    (halo,) = geometry.halo
    start = -(-halo // 32) * 32
    size = 2 * start + 32
    images = np.zeros((32, size, 1), np.float32)
    images[range(32), range(start, start + 32)] = 1.0
    shapes = jax.eval_shape(model.init, jax.random.key(0), images[:1])
    weights = jax.tree.map(
        lambda x: jnp.full(x.shape, 1.0 / x.shape[-2] if x.ndim > 1 else 0.0), shapes
    )
    outputs = np.asarray(apply(model, weights, images))[..., 0]
    affected = [np.flatnonzero(output > 0) for output in outputs]
    reach = [
        max(start + i - at[0], at[-1] - start - i) for i, at in enumerate(affected)
    ]
    assert max(reach) == halo


def test_a_resnet_and_its_decoder_have_as_many_parameters_as_in_the_literature():
    """Those of torchvision without the classifier; the decoder by hand."""
    for name, encoder in (("resnet18", 11_176_512), ("resnet50", 23_508_032)):
        model = UNet(
            padding="SAME",
            norm="batch",
            encoder=name,
            upsample="nearest",
            upsample_conv=False,
            head_kernel=3,
        )
        shapes = jax.eval_shape(
            model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3))
        )["params"]
        own = {k: v for k, v in shapes.items() if not k.startswith(("up", "head"))}
        assert sum(x.size for x in jax.tree.leaves(own)) == encoder
        last = 512 if name == "resnet18" else 2048
        skips = (0, 64, last // 8, last // 4, last // 2)
        total, below = 0, last
        for skip, width in zip(skips[::-1], (256, 128, 64, 32, 16), strict=True):
            total += 9 * (below + skip) * width + 9 * width**2 + 4 * width
            below = width
        total += 9 * 16 * 2 + 2
        rest = sum(x.size for x in jax.tree.leaves(shapes)) - encoder
        assert rest == total


def test_the_widths_of_the_expanding_path():
    model = UNet(
        (2, 4, 8),
        padding="SAME",
        decoder_widths=(3, 5),
        decoder_hidden=(6, 7),
        up_widths=(9, 10),
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    params = shapes["params"]
    assert params["upconv1"]["kernel"].shape == (8, 4, 10)
    assert params["up1"]["Conv_0"]["kernel"].shape == (3, 3, 4 + 10, 7)
    assert params["up1"]["Conv_1"]["kernel"].shape == (3, 3, 7, 5)
    assert params["upconv0"]["kernel"].shape == (5, 4, 9)
    assert params["up0"]["Conv_0"]["kernel"].shape == (3, 3, 2 + 9, 6)
    assert params["head0"]["kernel"].shape == (1, 1, 3, 2)


def test_halo_differs_between_axes():
    model = UNet(
        (1, 1, 1),
        padding="SAME",
        strides=((1, 2), (2, 2)),
        kernels=((1, 3), (3, 3), (3, 3)),
    )
    halo = model.geometry(2).halo
    # Axis 1: 4 convolutions at level 0, 4 at level 1 of 2 pixels, 2 at the bottom of 4
    # pixels, and 3 pixels to the other end of those 4. Axis 0: none at level 0, 4 at
    # level 1 of 1 pixel, 2 at the bottom of 2 pixels, and 1 pixel to the other end.
    assert halo == (0 + 4 * 1 + 2 * 2 + 1, 4 + 4 * 2 + 2 * 4 + 3) == (9, 23)
    pixels = [(24 + i, 24 + j) for i in range(2) for j in range(4)]
    ends = find_affected(model, (50, 52), pixels)
    distances = np.abs(ends - np.array(pixels)[..., None])
    np.testing.assert_array_equal(distances.max((0, 2)), halo)


def test_geometry_of_axes_that_differ():
    model = UNet(
        (1, 1, 1), strides=((1, 2, 2), (2, 2, 2)), kernels=((1, 3, 3), (3,), (3,))
    )
    geometry = model.geometry(3)
    assert geometry.strides == ((1, 1, 1), (1, 2, 2), (2, 4, 4))
    # As above, for the convolutions only.
    assert geometry.margin == (8, 20, 20)
    shape = geometry.valid_shape((1, 1, 1))
    image = jnp.zeros((1, *shape, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    logits = jax.eval_shape(model.apply, variables, image)
    left = tuple(n - 2 * m for n, m in zip(shape, geometry.margin, strict=True))
    assert logits.shape == (1, *left, 2)
    assert 0 < min(left) <= max(left) <= 4  # the coarsest stride
    with pytest.raises(
        UserError, match=r"strides has \(1, 2, 2\), 3 numbers .* 2 axes"
    ):
        model.geometry(2)


def test_aligned_corners_have_no_finite_halo():
    assert UNet((1, 1), padding="SAME", upsample="aligned").geometry(2).halo is None


def test_norms_over_space_have_no_finite_halo():
    halos = {
        norm: UNet((1, 1), norm=norm).geometry(2).halo
        for norm in ("none", "batch", "group", "instance")
    }
    assert halos["none"] == halos["batch"] == (9, 9)  # 2 x 2 + 2 x 2 + 1
    assert halos["group"] is halos["instance"] is None


def test_only_a_padded_network_without_deep_supervision_takes_any_crop():
    same = UNet((1, 1), padding="SAME")
    assert not same.geometry(2).strict
    assert same.clone(deep_supervision=True).geometry(2).strict
    assert UNet((1, 1)).geometry(2).strict


def get_shapes(model, *shape):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return jax.tree.map(lambda x: x.shape, variables["params"])


def test_every_level_has_its_depth_kernel_and_stride():
    model = UNet(
        (2, 3, 4),
        padding="SAME",
        encoder_depths=(1, 2, 3),
        decoder_depths=(3, 1),
        strides=((1, 2), (3, 2)),
        kernels=((1, 3), (3, 3), (3, 5)),
    )
    shapes = get_shapes(model, 12, 16, 1)
    depths = {name: sum("Conv" in key for key in shapes[name]) for name in shapes}
    assert [depths[f"down{level}"] for level in range(3)] == [1, 2, 3]
    assert [depths[f"up{level}"] for level in range(2)] == [3, 1]
    assert shapes["down0"]["Conv_0"]["kernel"] == (1, 3, 1, 2)
    assert shapes["down2"]["Conv_2"]["kernel"] == (3, 5, 4, 4)
    assert shapes["up0"]["Conv_0"]["kernel"] == (1, 3, 2 + 2, 2)
    assert shapes["upconv0"]["kernel"] == (3, 1 * 2, 2)
    assert shapes["upconv1"]["kernel"] == (4, 3 * 2, 3)

    linear = get_shapes(model.clone(upsample="linear"), 12, 16, 1)
    assert linear["upconv0"]["Conv_0"]["kernel"] == (1, 3, 3, 2)


def test_a_residual_encoder_has_a_stem_and_blocks():
    model = UNet(
        (2, 3), padding="SAME", encoder="residual", encoder_depths=(1, 2), residual=True
    )
    shapes = get_shapes(model, 16, 16, 1)
    assert shapes["stem"] == {"Conv_0": {"kernel": (3, 3, 1, 2), "bias": (2,)}}
    blocks = {name for name in shapes if name.startswith("down")}
    assert blocks == {"down0_0", "down1_0", "down1_1"}
    assert "shortcut" not in shapes["down0_0"]  # the stem has as many channels
    assert shapes["down1_0"]["shortcut"] == {"kernel": (1, 1, 2, 3)}
    assert "shortcut" not in shapes["down1_1"]
    assert shapes["up0"]["shortcut"]["kernel"] == (
        1,
        1,
        4,
        2,
    )  # `residual` is for these


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["plain", "residual"])
def test_a_level_starts_with_a_pooling_or_with_strides(encoder):
    """Convolutions copy: strides take the first of two pixels, pooling the larger."""
    model = UNet(
        (1, 1), padding="SAME", encoder=encoder, encoder_depths=(1,), dropout=0.0
    )
    image = jnp.array([1.0, 5.0, 7.0, 2.0]).reshape(1, 4, 1)

    def make_copy(path, leaf):
        middle = leaf.shape[0] // 2
        zeros = jnp.zeros(leaf.shape)
        if "bias" in str(path[-1]) or (
            encoder == "residual" and "down" in str(path[1])
        ):
            return zeros  # a block that adds nothing to its input
        return zeros.at[middle].set(1.0)

    def compute_bottom(model):
        variables = jax.eval_shape(model.init, jax.random.key(0), image)
        variables = jax.tree_util.tree_map_with_path(make_copy, variables)
        last = "down1" if encoder == "plain" else "down1_0"
        _, found = model.apply(
            variables, image, capture_intermediates=lambda m, _: m.name == last
        )
        return found["intermediates"][last]["__call__"][0].ravel().tolist()

    assert compute_bottom(model) == [5.0, 7.0]
    # A shortcut takes the mean of the pixels of a stride.
    strided = [1.0, 7.0] if encoder == "plain" else [3.0, 4.5]
    assert compute_bottom(model.clone(downsample="conv")) == strided


@pytest.mark.slow
def test_dropout_is_at_the_end_of_the_contracting_path():
    """It follows the last two levels: of the skips, only the deepest has it."""
    model = UNet((2, 3, 4), padding="SAME")
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    params = init(model, image)["params"]

    @jax.jit
    def train(params, key):
        rngs = {"dropout": key}
        return model.apply({"params": params}, image, train=True, rngs=rngs)

    def is_random(*silenced):
        quiet = dict(params)
        for name in silenced:
            quiet[name] = jax.tree.map(jnp.zeros_like, params[name])
        once, again = (train(quiet, key) for key in jax.random.split(jax.random.key(1)))
        return bool((once != again).any())

    assert is_random()
    assert is_random("upconv1")  # without the bottom
    assert not is_random("upconv0")  # through the first skip only
    kernel = params["up1"]["Conv_0"]["kernel"].at[:, :, :3].set(0)
    params["up1"]["Conv_0"]["kernel"] = kernel  # no longer reads the skip
    assert is_random()  # through the bottom only


@pytest.mark.parametrize("slope", [0.01, 0.25])
def test_negative_slope_is_that_of_leaky_relu(slope):
    """The last convolution returns -1 everywhere, and the head copies it."""
    model = UNet((1, 1), padding="SAME", activation="leaky_relu")
    model = model if slope == 0.01 else model.clone(negative_slope=slope)
    image = jnp.zeros((1, 4, 4, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)["params"]
    params["up0"]["Conv_1"]["bias"] -= 1.0
    params["head0"]["kernel"] += 1.0
    logits = apply(model, {"params": params}, image)
    np.testing.assert_allclose(logits, -slope)


PLAIN = UNet((2, 3), padding="SAME", norm="instance", dropout=0.0)
TIMED = PLAIN.clone(time_features=4)
NOISE = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("f4")
TIME = np.array([0.0, 0.7], "f4")


@pytest.mark.slow
def test_a_time_changes_the_output_of_every_block():
    init = jax.jit(lambda key: TIMED.init(key, NOISE, time=TIME))
    params = init(jax.random.key(1))["params"]
    blocks = {name for name in params if "time" in params[name]}
    assert blocks == {"down0", "down1", "up0"}
    forward = jax.jit(lambda p, t: TIMED.apply({"params": p}, NOISE, time=t))
    for block in blocks:  # the only one that gets the time
        others = {k: dict(v) for k, v in params.items()}
        for name in blocks - {block}:
            others[name]["time"] = jax.tree.map(jnp.zeros_like, params[name]["time"])
        change = np.abs(forward(others, TIME) - forward(others, 0 * TIME))
        assert change[0].max() == 0
        assert change[1].max() > 1e-3

    early = TIMED.apply({"params": params}, NOISE)  # the default time is 0
    np.testing.assert_allclose(early, forward(params, 0 * TIME), atol=1e-5)


@pytest.mark.slow
def test_a_time_of_one_is_a_thousand_steps():
    params = init(TIMED, NOISE)["params"]
    _, found = TIMED.apply(
        {"params": params},
        NOISE,
        time=TIME,
        capture_intermediates=lambda m, _: m.name == "time" and m.path == ("time",),
    )
    (embedded,) = found["intermediates"]["time"]["__call__"]
    steps = TimeEmbedding(4).apply({"params": params["time"]}, jnp.array([0.0, 700.0]))
    np.testing.assert_allclose(embedded, steps, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_network_without_a_time_has_the_same_other_parameters():
    timed, plain = init(TIMED, NOISE)["params"], init(PLAIN, NOISE)["params"]
    without = {
        name: {key: value for key, value in timed[name].items() if key != "time"}
        for name in timed
        if name != "time"
    }
    close = partial(np.testing.assert_allclose, rtol=1e-5)
    jax.tree.map(close, plain, without)
    with pytest.raises(UserError, match="time_features is 0, and the method needs"):
        PLAIN.apply({"params": plain}, NOISE, time=TIME)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"widths": (8,)}, "widths needs two or more numbers"),
        ({"widths": (1,) * 10**6}, "widths has 1000000 numbers, .*; 32 at most"),
        ({"encoder_depths": (10**6,)}, "encoder_depths is more than 1000 blocks"),
        ({"decoder_depths": (251,)}, "decoder_depths is more than 1000 blocks"),
        ({"strides": ((2,), (2,), (1, 10**9), (2,))}, "strides multiply to 8000000000"),
        ({"encoder_depths": (1, 2)}, "encoder_depths needs 1 entry or 5.*not 2$"),
        (
            {"decoder_depths": (1, 2, 3, 1, 1)},
            "decoder_depths needs 1 entry or 4.*not 5; for its first entries set "
            "--config.model.decoder_depths=1,2,3,1$",
        ),
        (
            {"widths": (8, 16), "strides": ((2, 1), (2, 2))},
            r"strides needs 1 entry or 1.*not 2; .*--config.model.strides='\(2,1\),'$",
        ),
        ({"kernels": ()}, "kernels needs 1 entry or 5.*not 0"),
        ({"strides": ((1, 2), (2, 2, 2), (2,), (2,))}, "strides needs entries of 1"),
        ({"kernels": ((),)}, "kernels needs entries of 1 number"),
        ({"downsample": "conv"}, "downsample='conv' needs padding='SAME'"),
        ({"activation": "one_hot"}, "activation: 'one_hot' is not a function"),
        ({"decoder_widths": (8, 16)}, "decoder_widths needs 4 entries or none"),
        ({"upsample_conv": False}, "upsample_conv=False needs an interpolation"),
        (
            {"upsample": "nearest", "upsample_conv": False, "up_widths": (8,) * 4},
            "up_widths is without effect",
        ),
        ({"upsample": "aligned"}, "upsample='aligned' needs padding='SAME'"),
        ({"head_kernel": 3}, "head_kernel=3 needs padding='SAME'"),
        ({"encoder": "resnet18"}, "padding='VALID' does not fit encoder='resnet18'"),
        (
            {"encoder": "resnet18", "padding": "SAME", "strides": ((3,),)},
            r"strides must be \(\(2,\),\)",
        ),
        (
            {"encoder": "resnet18", "padding": "SAME", "time_features": 8},
            "encoder='resnet18' reads no time",
        ),
    ],
)
def test_a_wrong_field_is_described_in_one_line(fields, words):
    line = UNet(**fields).fault()
    assert re.match(words, line)
    assert "\n" not in line


def test_valid_fields_have_no_fault():
    assert UNet().fault() is None
    model = UNet((1, 2, 3), strides=((1, 2, 2), (2,)), kernels=((1, 3, 3), (3,), (3,)))
    assert model.fault() is None
