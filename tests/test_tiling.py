"""Tiles, put together, against the whole image in one piece."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_jax import tiling
from unet_jax.errors import UserError
from unet_jax.models import UNet


def through(apply, tiles, image):
    """The logits of all tiles of an image `[*S, C]`, put together."""
    cuts = (tiling.cut(tiles, tile, lambda box: image[tuple(box)]) for tile in tiles)
    answers = ({"logits": np.asarray(apply(cut))} for cut in cuts)
    rows = list(tiling.assemble(tiles, answers))
    return np.concatenate([row["logits"] for row in rows])


def network(model, axes, seed=0):
    """A network with weights that let far pixels count, as trained ones may."""
    shape = model.geometry(axes).valid_shape((1,) * axes)
    example = np.zeros((1, *shape, 1), np.float32)
    variables = model.init(jax.random.key(seed), example)
    return jax.jit(lambda x: model.apply(variables, x[None])[0])


def whole_and_tiled(model, shape, edges):
    image = np.random.default_rng(0).normal(size=(*shape, 1)).astype("f4")
    apply = network(model, len(shape))
    geometry = model.geometry(len(shape))
    whole = tiling.plan(shape, geometry, edges=(10**6,) * len(shape))
    assert whole.count == 1
    tiles = tiling.plan(shape, geometry, edges=edges)
    return through(apply, whole, image), through(apply, tiles, image), tiles


def roomy(model, axes, more):
    """The edges of a tile whose bottom is 8 pixels wide or a little more.

    XLA multiplies matrices of fewer pixels in another order, which rounds otherwise.
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


@settings(max_examples=12, deadline=None, derandomize=True)
@given(model=networks, shape=images, more=st.integers(0, 20))
def test_stitched_is_whole_to_the_bit_where_padding_is_valid(model, shape, more):
    whole, tiled, _ = whole_and_tiled(model, shape, roomy(model, len(shape), more))
    np.testing.assert_array_equal(tiled, whole)
    assert whole.shape[:-1] == shape


@settings(max_examples=12, deadline=None, derandomize=True)
@given(model=networks, shape=images, more=st.integers(0, 20))
def test_stitched_is_whole_to_rounding_where_padding_is_same(model, shape, more):
    model = model.clone(padding="SAME")
    whole, tiled, _ = whole_and_tiled(model, shape, (1 + more,) * len(shape))
    np.testing.assert_allclose(tiled, whole, atol=2e-5 * max(1, np.abs(whole).max()))


FLAT = {  # networks whose axes differ, by their number
    2: {"strides": ((1, 2), (2, 2)), "kernels": ((1, 3), (3,), (3,))},
    3: {"strides": ((1, 2, 2), (2, 2, 2)), "kernels": ((1, 3, 3), (3,), (3,))},
}


def several_tiles_each_axis(model, axes):
    """The answers of the tiles and of the whole image, which is little larger."""
    count, steps = (3, 7) if axes == 2 else (2, 2)
    geometry, edges = model.geometry(axes), roomy(model, axes, 0)
    numbers = zip(edges, geometry.margin, geometry.multiple, strict=True)
    shape = tuple(
        edge - 2 * margin + steps * step - 1 for edge, margin, step in numbers
    )
    whole, tiled, tiles = whole_and_tiled(model, shape, edges)
    assert set(map(len, tiles.spans)) == {count}
    assert tiles.shape == edges
    return whole, tiled


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    "fields",
    [{}, {"upsample": "linear", "decoder_depths": (1,)}],
    ids=["paper", "linear"],
)
def test_axes_that_differ_are_exact_to_the_bit_where_padding_is_valid(axes, fields):
    model = UNet((2, 3, 2), **FLAT[axes], **fields)
    whole, tiled = several_tiles_each_axis(model, axes)
    np.testing.assert_array_equal(tiled, whole)


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
def test_axes_that_differ_are_exact_to_rounding_where_padding_is_same(axes, fields):
    model = UNet((2, 3, 2), padding="SAME", **FLAT[axes], **fields)
    whole, tiled = several_tiles_each_axis(model, axes)
    np.testing.assert_allclose(tiled, whole, atol=2e-5 * max(1, np.abs(whole).max()))


def test_a_halo_that_is_too_small_would_be_seen():
    """The arrays that the tests above compare are not equal by themselves."""
    model = UNet((2, 3, 2), padding="SAME", **FLAT[2])
    geometry = model.geometry(2)
    shape, apply = (71, 150), network(model, 2)
    image = np.random.default_rng(0).normal(size=(*shape, 1)).astype("f4")
    for axis in range(2):
        halo = list(geometry.halo)
        halo[axis] -= 4
        less = geometry._replace(halo=tuple(halo))
        tiles = tiling.plan(shape, less, edges=(1, 1))
        assert np.abs(through(apply, tiles, image) - apply(image)).max() > 1e-3


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_the_tests_above_have_several_tiles(padding):
    model = UNet((1, 2, 3), padding=padding)
    *_, tiles = whole_and_tiled(model, (149, 31), (70, 70))
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
    """With as many pixels as inference begins with."""
    geometry = UNet(widths, padding=padding).geometry(len(shape))
    pixels = max(tiling.LIMIT, np.prod([6 * context for context in geometry.context]))
    tiles = tiling.plan(shape, geometry, pixels=pixels)
    assert np.prod(tiles.shape) <= pixels
    pairs = zip(shape, geometry.margin, strict=True)
    whole = geometry.valid_shape(tuple(size + 2 * margin for size, margin in pairs))
    assert tiles.count * np.prod(tiles.shape) < 4 * np.prod(whole)


def test_a_whole_same_image_is_what_the_model_makes_of_it():
    """The model pads by itself; the plan must not see other pixels than it does."""
    model = UNet((2, 3, 4), padding="SAME")
    image = np.random.default_rng(0).normal(size=(53, 90, 1)).astype("f4")
    apply = network(model, 2)
    tiles = tiling.plan((53, 90), model.geometry(2))
    assert tiles.shape == (56, 92)
    np.testing.assert_array_equal(through(apply, tiles, image), apply(image))


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_norms_over_space_are_blended(padding):
    """Weights that sum to one: what all tiles agree on is what comes out."""
    model = UNet((2, 3), padding=padding, norm="instance")
    assert model.geometry(2).halo is None
    tiles = tiling.plan((101, 67), model.geometry(2), edges=(40, 40))
    assert tiles.blend
    image = np.random.default_rng(0).normal(size=(101, 67, 1))
    margin = tiles.margin[0]

    def keep(tile):
        return tile[margin : len(tile) - margin, margin : tile.shape[1] - margin]

    np.testing.assert_allclose(through(keep, tiles, image), image, rtol=1e-5)
    counts = through(lambda tile: np.full_like(keep(tile), 7), tiles, image)
    np.testing.assert_allclose(counts, 7, rtol=1e-6)


def test_the_border_is_the_papers_mirror():
    """Figure 2: to predict the corner, the missing context is mirrored."""
    model = UNet((1,) * 5)
    image = np.random.default_rng(0).normal(size=(512, 512, 1))
    tiles = tiling.plan((512, 512), model.geometry(2))
    (tile,) = tiles
    cut = tiling.cut(tiles, tile, lambda box: image[tuple(box)])
    assert cut.shape == (700, 700, 1)
    np.testing.assert_array_equal(cut[92:604, 92:604], image)
    np.testing.assert_array_equal(cut[91, 92:604], image[1])
    np.testing.assert_array_equal(cut[0, 92:604], image[92])


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_no_more_is_read_than_a_tile(padding):
    model = UNet((1, 2, 3), padding=padding)
    shape = (2000, 3000)
    tiles = tiling.plan(shape, model.geometry(2), edges=(128, 160))
    read = []

    def reads(box):
        assert all(0 <= b.start < b.stop <= n for b, n in zip(box, shape, strict=True))
        read.append(tuple(b.stop - b.start for b in box))
        return np.zeros((*read[-1], 1), np.float32)

    for tile in tiles:
        assert tiling.cut(tiles, tile, reads).shape == (*tiles.shape, 1)
    assert max(h for h, _ in read) <= 128
    assert max(w for _, w in read) <= 160


def test_a_tile_that_is_all_context_is_refused():
    geometry = UNet((1,) * 5, padding="SAME").geometry(2)
    with pytest.raises(UserError, match="240 or more along axis 1, not 128"):
        tiling.check_edges((512, 128), geometry)
    tiling.check_edges((240, 240), geometry)
