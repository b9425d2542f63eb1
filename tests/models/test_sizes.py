"""Sizes of the paper (Ronneberger et al. 2015, figures 1 and 2) and by simulation."""

import pytest

from unet_jax.models import sizes
from unet_jax.models.sizes import UNetAxis

PAPER = UNetAxis(strides=(2,) * 4, kernels=(3,) * 5, down=(2,) * 5, up=(2,) * 4)


def test_the_paper():
    assert sizes.compute_margin(PAPER) == 92 == (572 - 388) // 2
    legal = [n for n in range(1, 600) if sizes.find_valid_size(n, PAPER) == n]
    assert legal == list(range(188, 600, 16)) == [16 * k + 60 for k in range(8, 34)]
    assert sizes.find_valid_size(573, PAPER) == 588
    assert sizes.find_valid_size(1, PAPER) == 188
    # 92 for the convolutions, and 15 to the other end of the 16 pixels of the bottom.
    assert sizes.compute_halo(PAPER) == 107


def test_legal_sizes_with_same_padding_are_multiples():
    axis = PAPER._replace(padding="SAME")
    assert sizes.compute_margin(axis) == 0
    assert sizes.find_valid_size(1, axis) == 16
    assert sizes.find_valid_size(17, axis) == 32
    assert sizes.find_valid_size(32, axis) == 32
    assert sizes.find_valid_size(40, axis) == 48


def simulate(size, axis):
    """Returns the output size, layer by layer as in figure 1; None if illegal."""
    for level, kernel in enumerate(axis.kernels):
        if level > 0:
            if size % axis.strides[level - 1]:
                return None
            size //= axis.strides[level - 1]
        size -= axis.down[level] * (kernel - 1)
        if size < 1:
            return None
    for level in reversed(range(len(axis.strides))):
        kernel, stride = axis.kernels[level], axis.strides[level]
        size *= stride
        if axis.upsample == "linear":  # pixels before the first coarse pixel's centre
            size -= 2 * sum((i + 0.5) / stride < 0.5 for i in range(stride))
        if axis.upsample != "transpose":
            size -= kernel - 1
        size -= axis.up[level] * (kernel - 1)
        if size < 1:
            return None
    return size


@pytest.mark.parametrize("upsample", ["transpose", "nearest", "linear"])
@pytest.mark.parametrize(
    "axis",
    [
        UNetAxis((2,), (3, 3), (2, 2), (2,)),
        UNetAxis((2, 2, 2), (3, 3, 3, 3), (2, 2, 2, 2), (2, 2, 2)),
        UNetAxis((1, 2, 2), (1, 3, 3, 3), (2, 2, 2, 2), (2, 2, 2)),
        UNetAxis((3, 2), (3, 5, 1), (2, 1, 3), (1, 4)),
        UNetAxis((4, 3), (3, 1, 3), (1, 1, 2), (2, 1)),
    ],
)
def test_closed_forms_agree_with_the_simulation(axis, upsample):
    axis = axis._replace(upsample=upsample)
    margin = sizes.compute_margin(axis)
    legal = []
    for size in range(1, 250):
        left = simulate(size, axis)
        assert (sizes.find_valid_size(size, axis) == size) == (left is not None)
        if left is not None:
            assert left == size - 2 * margin
            legal.append(size)
    assert len(legal) > 2
    assert [sizes.find_valid_size(n, axis) for n in range(1, legal[-1] + 1)] == [
        min(size for size in legal if size >= n) for n in range(1, legal[-1] + 1)
    ]
