"""The paper's arithmetic (Ronneberger et al. 2015, figures 1 and 2)."""

import itertools

import pytest

from unet_jax.models import sizes


def test_the_paper():
    assert sizes.margin(4, "VALID") == 92 == (572 - 388) // 2
    legal = [n for n in range(1, 600) if sizes.is_valid(n, 4, "VALID")]
    assert legal == list(range(188, 600, 16)) == [16 * k + 60 for k in range(8, 34)]
    assert sizes.valid_size(573, 4, "VALID") == 588
    assert sizes.valid_size(1, 4, "VALID") == 188


def walk(size, depth, loss):
    """Follows one axis through the layers, as figure 1 does; None where it breaks."""
    for _ in range(depth):
        size -= 4
        if size < 2 or size % 2:
            return None
        size //= 2
    size -= 4
    for _ in range(depth):
        if size < 1:
            return None
        size = 2 * size - 2 * loss - 4
    return size if size > 0 else None


@pytest.mark.parametrize(
    ("depth", "upsample"), list(itertools.product((1, 2, 3), sizes.UPSAMPLING_LOSS))
)
def test_closed_forms_agree_with_the_walk_through_the_layers(depth, upsample):
    loss = sizes.UPSAMPLING_LOSS[upsample]
    margin = sizes.margin(depth, "VALID", upsample)
    for size in range(1, 200):
        left = walk(size, depth, loss)
        assert sizes.is_valid(size, depth, "VALID", upsample) == (left is not None)
        if left is not None:
            assert left == size - 2 * margin


def test_same_padding_takes_multiples():
    assert sizes.margin(3, "SAME") == 0
    assert sizes.valid_size(17, 3, "SAME") == 24
