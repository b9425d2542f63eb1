"""Assembled tiles, against the whole image in one piece."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_jax import tiling
from unet_jax.errors import UserError
from unet_jax.models import UNet


def apply_to_tiles(apply, tiles, image):
    """Returns the assembled logits of all tiles of an image `[*S, C]`."""
    inputs = (
        tiling.read_tile(tiles, tile, lambda box: image[tuple(box)]) for tile in tiles
    )
    results = ({"logits": np.asarray(apply(tile))} for tile in inputs)
    rows = list(tiling.assemble_tiles(tiles, results))
    return np.concatenate([row["logits"] for row in rows])


def make_network(model, axes, seed=0):
    """Returns a network with random weights, in which distant pixels have effects."""
    shape = model.geometry(axes).valid_shape((1,) * axes)
    example = np.zeros((1, *shape, 1), np.float32)
    variables = model.init(jax.random.key(seed), example)
    return jax.jit(lambda x: model.apply(variables, x[None])[0])


def whole_and_tiled(model, shape, edges):
    """Returns the output of the whole image, that of the tiles, and the tiles."""
    image = np.random.default_rng(0).normal(size=(*shape, 1)).astype("f4")
    apply = make_network(model, len(shape))
    geometry = model.geometry(len(shape))
    whole = tiling.plan_tiles(shape, geometry, edges=(10**6,) * len(shape))
    assert whole.count == 1
    tiles = tiling.plan_tiles(shape, geometry, edges=edges)
    outputs = (apply_to_tiles(apply, plan, image) for plan in (whole, tiles))
    return *outputs, tiles


def assert_close(tiled, whole):
    np.testing.assert_allclose(tiled, whole, atol=2e-5 * max(1, np.abs(whole).max()))


def assert_same(tiled, whole):
    """Compares bit by bit where XLA rounds a pixel alike in images of every size."""
    if rounds_alike():
        np.testing.assert_array_equal(tiled, whole)
    else:
        assert_close(tiled, whole)


@functools.cache
def rounds_alike():
    """True if this CPU gives the same bits for a part of an image as for all of it."""
    for axes in (2, 3):
        rng = np.random.default_rng(0)
        image = rng.normal(size=(1, *(17, 14, 13)[:axes], 3)).astype("f4")
        part = image[(slice(None), *[slice(1, 12)] * axes)]
        convolution = nn.Conv(4, (3,) * axes, padding="VALID")
        variables = convolution.init(jax.random.key(0), image)
        apply = jax.jit(lambda x, f=convolution, v=variables: f.apply(v, x))
        inner = np.asarray(apply(image))[(slice(None), *[slice(1, 10)] * axes)]
        if not np.array_equal(inner, apply(part)):
            return False
    return True


def large_edges(model, axes, more):
    """Returns the edges of a tile with 8 pixels or a little more at its bottom.

    XLA multiplies matrices of fewer pixels in another order, which rounds differently.
    """
    geometry = model.geometry(axes)
    pairs = zip(geometry.context, geometry.multiple, strict=True)
    edges = geometry.valid_shape(tuple(2 * c + 5 * step for c, step in pairs))
    return tuple(edge + more for edge in edges)


images = st.one_of(
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.tuples(st.integers(1, 31), st.integers(1, 47), st.integers(1, 31)),
)
networks = st.builds(
    UNet,
    widths=st.sampled_from([(2, 3), (3, 2, 4)]),
    upsample=st.sampled_from(["transpose", "nearest", "linear"]),
    residual=st.booleans(),
    attention=st.booleans(),
)


@pytest.mark.slow
@settings(max_examples=4, deadline=None, derandomize=True)
@given(model=networks, shape=images, more=st.integers(0, 20))
def test_tiles_equal_the_whole_to_the_bit_with_valid_padding(model, shape, more):
    whole, tiled, _ = whole_and_tiled(
        model, shape, large_edges(model, len(shape), more)
    )
    assert_same(tiled, whole)
    assert whole.shape[:-1] == shape


@pytest.mark.slow
@settings(max_examples=4, deadline=None, derandomize=True)
@given(model=networks, shape=images, more=st.integers(0, 20))
def test_tiles_equal_the_whole_up_to_rounding_with_same_padding(model, shape, more):
    model = model.clone(padding="SAME")
    whole, tiled, _ = whole_and_tiled(model, shape, (1 + more,) * len(shape))
    assert_close(tiled, whole)


ANISOTROPIC = {  # networks whose axes differ, by the number of axes
    2: {"strides": ((1, 2), (2, 2)), "kernels": ((1, 3), (3,), (3,))},
    3: {"strides": ((1, 2, 2), (2, 2, 2)), "kernels": ((1, 3, 3), (3,), (3,))},
}


def several_tiles_each_axis(model, axes):
    """Returns the outputs of a whole image and of several tiles along each axis."""
    count, steps = (3, 7) if axes == 2 else (2, 2)
    geometry, edges = model.geometry(axes), large_edges(model, axes, 0)
    numbers = zip(edges, geometry.margin, geometry.multiple, strict=True)
    shape = tuple(
        edge - 2 * margin + steps * step - 1 for edge, margin, step in numbers
    )
    whole, tiled, tiles = whole_and_tiled(model, shape, edges)
    assert set(map(len, tiles.spans)) == {count}
    assert tiles.shape == edges
    return whole, tiled


@pytest.mark.slow
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    "fields",
    [{}, {"upsample": "linear", "decoder_depths": (1,)}],
    ids=["paper", "linear"],
)
def test_axes_may_differ_with_valid_padding(axes, fields):
    model = UNet((2, 3, 2), **ANISOTROPIC[axes], **fields)
    assert_same(*several_tiles_each_axis(model, axes))


@pytest.mark.slow
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"downsample": "conv", "encoder": "residual", "encoder_depths": (1,)},
        {"upsample": "linear", "residual": True, "decoder_depths": (1,)},
    ],
    ids=["paper", "strided", "linear"],
)
def test_axes_may_differ_with_same_padding(axes, fields):
    model = UNet((2, 3, 2), padding="SAME", **ANISOTROPIC[axes], **fields)
    whole, tiled = several_tiles_each_axis(model, axes)
    assert_close(tiled, whole)


@pytest.mark.slow
def test_a_halo_that_is_too_small_changes_the_result():
    """The arrays that the tests above compare are not equal for any halo."""
    model = UNet((2, 3, 2), padding="SAME", **ANISOTROPIC[2])
    geometry = model.geometry(2)
    shape, apply = (71, 150), make_network(model, 2)
    image = np.random.default_rng(0).normal(size=(*shape, 1)).astype("f4")
    for axis in range(2):
        halo = list(geometry.halo)
        halo[axis] -= 4
        smaller = geometry._replace(halo=tuple(halo))
        tiles = tiling.plan_tiles(shape, smaller, edges=(1, 1))
        assert np.abs(apply_to_tiles(apply, tiles, image) - apply(image)).max() > 1e-3


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_the_tests_above_have_several_tiles(padding):
    model = UNet((1, 2, 3), padding=padding)
    tiles = tiling.plan_tiles((149, 31), model.geometry(2), edges=(70, 70))
    assert tiles.count > 2


@pytest.mark.parametrize(
    ("shape", "widths", "padding"),
    [
        ((4096, 4096), (1,) * 5, "SAME"),
        ((256, 256, 256), (1,) * 4, "SAME"),
        ((256, 256, 256), (1,) * 4, "VALID"),
        ((32, 512, 512), (1,) * 4, "SAME"),
        ((300, 40_000), (1,) * 5, "VALID"),
    ],
)
def test_tiles_are_not_mostly_context(shape, widths, padding):
    """The number of pixels is the one that inference starts with."""
    geometry = UNet(widths, padding=padding).geometry(len(shape))
    pixels = tiling.find_max_pixels(geometry)
    tiles = tiling.plan_tiles(shape, geometry, pixels=pixels)
    assert np.prod(tiles.shape) <= pixels
    pairs = zip(shape, geometry.margin, strict=True)
    whole = geometry.valid_shape(tuple(size + 2 * margin for size, margin in pairs))
    assert tiles.count * np.prod(tiles.shape) < 4 * np.prod(whole)


@pytest.mark.parametrize(("padding", "halo"), [("VALID", 92), ("SAME", 107)])
@pytest.mark.parametrize("size", [1100, 1536, 2048, 3000])
def test_tiles_are_not_larger_than_their_number_needs(padding, halo, size):
    """Two of them share the halo on both sides of each seam, and no more."""
    geometry = UNet((1,) * 5, padding=padding).geometry(2)
    tiles = tiling.plan_tiles((size, size), geometry, pixels=2**20)
    count = len(tiles.spans[0])
    context = 2 * halo * (count if padding == "VALID" else count - 1)
    rounding = 16 * 2 * count  # to the coarsest stride
    assert size + context <= count * tiles.shape[0] <= size + context + rounding


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_tiles_of_a_limited_number_of_pixels_equal_the_whole(padding):
    model = UNet((2, 3, 4), padding=padding)
    image = np.random.default_rng(0).normal(size=(150, 110, 1)).astype("f4")
    apply = make_network(model, 2)
    whole, tiles = (
        tiling.plan_tiles((150, 110), model.geometry(2), pixels=pixels)
        for pixels in (10**6, 100**2)
    )
    assert whole.count == 1
    assert tiles.count > 2
    assert_close(*(apply_to_tiles(apply, plan, image) for plan in (tiles, whole)))


@pytest.mark.slow
def test_one_tile_with_same_padding_is_the_padded_image():
    """The tile has the pixels that the model would add by itself."""
    model = UNet((2, 3, 4), padding="SAME")
    image = np.random.default_rng(0).normal(size=(53, 90, 1)).astype("f4")
    apply = make_network(model, 2)
    tiles = tiling.plan_tiles((53, 90), model.geometry(2))
    assert tiles.shape == (56, 92)
    assert_close(apply_to_tiles(apply, tiles, image), apply(image))


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_tiles_of_norms_over_space_are_blended(padding):
    """The weights sum to one: equal results of all tiles are unchanged."""
    model = UNet((2, 3), padding=padding, norm="instance")
    assert model.geometry(2).halo is None
    tiles = tiling.plan_tiles((101, 67), model.geometry(2), edges=(40, 40))
    assert tiles.blend
    image = np.random.default_rng(0).normal(size=(101, 67, 1))
    margin = tiles.margin[0]

    def keep(tile):
        return tile[margin : len(tile) - margin, margin : tile.shape[1] - margin]

    np.testing.assert_allclose(apply_to_tiles(keep, tiles, image), image, rtol=1e-5)
    counts = apply_to_tiles(lambda tile: np.full_like(keep(tile), 7), tiles, image)
    np.testing.assert_allclose(counts, 7, rtol=1e-6)


def test_the_context_is_mirrored_as_in_the_paper():
    """Figure 2: the context outside the image is mirrored."""
    model = UNet((1,) * 5)
    image = np.random.default_rng(0).normal(size=(512, 512, 1))
    tiles = tiling.plan_tiles((512, 512), model.geometry(2))
    (tile,) = tiles
    pixels = tiling.read_tile(tiles, tile, lambda box: image[tuple(box)])
    assert pixels.shape == (700, 700, 1)
    np.testing.assert_array_equal(pixels[92:604, 92:604], image)
    np.testing.assert_array_equal(pixels[91, 92:604], image[1])
    np.testing.assert_array_equal(pixels[0, 92:604], image[92])


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_a_tile_reads_no_more_pixels_than_its_size(padding):
    model = UNet((1, 2, 3), padding=padding)
    shape = (2000, 3000)
    tiles = tiling.plan_tiles(shape, model.geometry(2), edges=(128, 160))
    sizes = []

    def read(box):
        assert all(0 <= b.start < b.stop <= n for b, n in zip(box, shape, strict=True))
        sizes.append(tuple(b.stop - b.start for b in box))
        return np.zeros((*sizes[-1], 1), np.float32)

    for tile in tiles:
        assert tiling.read_tile(tiles, tile, read).shape == (*tiles.shape, 1)
    assert max(h for h, _ in sizes) <= 128
    assert max(w for _, w in sizes) <= 160


def test_a_tile_that_contains_only_context_is_refused():
    geometry = UNet((1,) * 5, padding="SAME").geometry(2)
    with pytest.raises(UserError, match="240 or more along axis 1, not 128"):
        tiling.check_edges((512, 128), geometry)
    tiling.check_edges((240, 240), geometry)


def test_blending_weights_are_those_of_nnunet():
    """A point blurred by an eighth of the tile, at half steps of the tile.

    Here the weight is at least 0.001; in nnU-Net only zeros are replaced.
    """
    point = np.zeros((17, 33))
    point[8, 16] = 1
    blurred = scipy.ndimage.gaussian_filter(point, (17 / 8, 33 / 8), mode="constant")
    expected = np.maximum(blurred / blurred.max(), 1e-3)
    got = tiling._make_gaussian((17, 33))
    # scipy cuts the blur after 4 sigma
    np.testing.assert_allclose(got, expected, atol=1e-3)
    spans = tiling._place_overlapping(512, 512, 128, 0, 16)
    assert [span.start for span in spans] == list(range(0, 385, 64))


def test_the_tiles_of_nnunet():
    """Steps of half a tile at most and of equal size; zeros around small images."""
    sliding = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")
    for image, edges in (((110, 64), (64, 64)), ((500, 131), (96, 40))):
        tiles = tiling.plan_even_tiles(image, edges)
        got = [[span.start for span in spans] for spans in tiles.spans]
        assert got == sliding.compute_steps_for_sliding_window(image, edges, 0.5)
    tiles = tiling.plan_even_tiles((3, 9), (8, 8))
    assert [[s.start for s in spans] for spans in tiles.spans] == [[-2], [0, 1]]
    first, second = tiles
    image = np.arange(1.0, 28.0).reshape(3, 9, 1)
    read = tiling.read_tile(tiles, second, lambda box: image[tuple(box)])
    expected = np.pad(image[:, 1:], [(2, 3), (0, 0), (0, 0)])
    np.testing.assert_array_equal(read, expected)


def test_blended_tiles_of_nnunet_keep_equal_values():
    tiles = tiling.plan_even_tiles((50, 21), (16, 24))
    assert tiles.blend
    image = np.random.default_rng(0).normal(size=(50, 21, 2))
    got = apply_to_tiles(lambda tile: tile, tiles, image)
    np.testing.assert_allclose(got, image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 32), (8, 16, 16), (7, 12, 9)])
def test_the_weights_of_nnunet_are_those_of_float16(shape):
    """The last bit may differ: scipy sums the blur in another order."""
    sliding = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")
    torch = pytest.importorskip("torch")
    expected = sliding.compute_gaussian(
        shape, value_scaling_factor=10, device=torch.device("cpu")
    )
    got = tiling._make_gaussian(shape, nnunet=True)
    np.testing.assert_allclose(got, expected.float().numpy(), rtol=1e-3, atol=6e-8)
