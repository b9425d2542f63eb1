import jax
import numpy as np
import pytest

from unet_jax import tiling
from unet_jax.arrays import IGNORE, window
from unet_jax.models import UNet


def plan(model, shape, limit):
    return tiling.plan(
        shape,
        margin=model.margin,
        multiple=2**model.depth,
        valid_size=model.valid_size,
        limit=limit,
    )


@pytest.mark.parametrize(
    ("shape", "limit", "upsample"),
    [
        ((53, 90), 60**2, "transpose"),
        ((53, 30), 60**2, "linear"),
        ((7, 31), 44**2, "nearest"),
        ((17, 9, 30), 44**3, "transpose"),
    ],
)
def test_tiles_of_a_valid_network_are_the_whole_image(shape, limit, upsample):
    model = UNet((2, 3, 4), upsample=upsample)
    image = np.random.default_rng(0).normal(size=(*shape, 1)).astype("f4")
    label = np.zeros(shape, np.int32)
    params = jax.jit(model.init)(
        jax.random.key(0), np.zeros((1, *(64,) * len(shape), 1))
    )
    apply = jax.jit(model.apply)

    whole = plan(model, shape, 10**9)
    assert len(whole.origins) == 1
    tile, _ = tiling.cut(whole, whole.origins[0], image, label)
    expected = apply(params, tile[None])[0][tuple(slice(n) for n in shape)]

    tiles = plan(model, shape, limit)
    assert len(tiles.origins) > 1
    pieces = [
        np.asarray(apply(params, tiling.cut(tiles, o, image, label)[0][None])[0])
        for o in tiles.origins
    ]
    got = tiling.stitch(tiles, shape, pieces)
    np.testing.assert_array_equal(got, expected)


def test_the_border_is_the_papers_mirror():
    """Figure 2: to predict the corner, the missing context is mirrored."""
    model = UNet((1,) * 5)
    image = np.random.default_rng(0).normal(size=(512, 512, 1))
    tiles = plan(model, (512, 512), 10**9)
    tile, _ = tiling.cut(tiles, (0, 0), image, np.zeros((512, 512), int))
    assert tile.shape == (700, 700, 1)
    np.testing.assert_array_equal(tile[92:604, 92:604], image)
    np.testing.assert_array_equal(tile[91, 92:604], image[1])
    np.testing.assert_array_equal(tile[0, 92:604], image[92])


@pytest.mark.parametrize("shape", [(53, 90), (20, 9, 30)])
def test_every_pixel_is_judged_once(shape):
    model = UNet((2, 3, 4))
    ids = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    tiles = plan(model, shape, 48 ** len(shape))
    judged = np.concatenate(
        [
            tiling.cut(tiles, o, ids[..., None], ids)[1][
                (slice(tiles.margin, -tiles.margin),) * len(shape)
            ].ravel()
            for o in tiles.origins
        ]
    )
    np.testing.assert_array_equal(np.sort(judged[judged != IGNORE]), ids.ravel())
    first = tiles.origins[-1]
    tile, label = tiling.cut(tiles, first, ids[..., None], ids)
    known = label != IGNORE
    np.testing.assert_array_equal(tile[known][:, 0], label[known])
    assert tile.shape == (*tiles.shape, 1)
    start = [o - tiles.margin for o in first]
    np.testing.assert_array_equal(tile[..., 0], window(ids, start, tiles.shape))


def test_same_padding_takes_the_image_whole():
    model = UNet((2, 3, 4), padding="SAME")
    tiles = plan(model, (53, 90), 10)
    assert tiles.shape == (56, 92)
    assert tiles.origins == ((0, 0),)
