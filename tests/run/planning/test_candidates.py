import math

import pytest

from unet_jax.models import UNet
from unet_jax.run.planning import candidates

SAME = UNet(padding="SAME")


@pytest.mark.parametrize(
    ("shape", "aspect", "pixels", "expected"),
    [
        ((100, 100), (1, 1), 64**2, (64, 64)),
        ((30, 40), (1, 1), 64**2, (30, 40)),  # the whole image
        ((20, 512, 512), (1, 1, 1), 128**3, (20, 323, 323)),  # 128^3 / 20 = 323.8^2
        ((1000, 1000, 1000), (4, 1, 1), 16 * 64 * 64, (16, 64, 64)),
        ((8, 1000, 1000), (4, 1, 1), 16 * 64 * 64, (8, 90, 90)),  # 64 * 64 * 2 = 90.5^2
    ],
)
def test_box_is_a_cube_in_physical_units_within_the_image(
    shape, aspect, pixels, expected
):
    assert candidates.fit_box(shape, aspect, pixels) == expected


@pytest.mark.parametrize(
    ("shape", "depth", "crop"),
    [
        # the median of the Decathlon's hippocampi; nnU-Net plans the same patch and
        # three poolings
        ((35, 50, 36), 3, (40, 56, 40)),
        ((512, 512), 4, (512, 512)),
        ((2000, 2000), 4, (576, 576)),
        ((20, 24), 2, (20, 24)),  # 20 / 4 = 5, 20 / 8 < 4
        ((9, 200, 200), 1, (10, 200, 200)),  # 9 / 2 = 4; rounded to even sizes
    ],
)
def test_first_candidate_of_a_padded_network(shape, depth, crop):
    model, got = next(candidates.list_candidates(SAME, shape, (1.0,) * len(shape)))
    assert (len(model.widths) - 1, got) == (depth, crop)


def test_first_candidate_of_the_papers_network():
    model, crop = next(candidates.list_candidates(UNet(), (512, 512), (1.0, 1.0)))
    assert (len(model.widths), crop) == (5, (572, 572))  # figure 2
    # with 5 levels a crop of 284 has an output of 100, less than half of it
    model, crop = next(candidates.list_candidates(UNet(), (100, 100), (1.0, 1.0)))
    assert (len(model.widths), crop) == (4, (188, 188))  # margin 44: 100 of 188


def test_a_network_with_strides_for_every_level_keeps_its_levels():
    flat = UNet(
        (32, 64, 128),
        padding="SAME",
        strides=((1, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    )
    model, crop = next(candidates.list_candidates(flat, (35, 50, 39), (1.0,) * 3))
    assert (model.widths, crop) == (flat.widths, (36, 52, 40))
    too_small = (9, 5, 9)
    model, crop = next(candidates.list_candidates(flat, too_small, (1.0,) * 3))
    assert (model.widths, crop) == (flat.widths, (10, 8, 12))


@pytest.mark.parametrize(
    ("shape", "widths", "depths"),
    [
        ((64, 64), (32, 64, 128, 256, 512), (1, 3, 4, 6, 6)),
        ((40, 56), (32, 64, 128, 256), (1, 3, 4, 6)),
        ((512, 512), (32, 64, 128, 256, 512, 512), (1, 3, 4, 6, 6, 6)),
    ],
)
def test_depths_of_every_level_follow_the_number_of_levels(shape, widths, depths):
    """nnU-Net's residual encoder: 4 pixels or more at the lowest level."""
    model = UNet(
        (32, 64, 128, 256, 512, 512),
        padding="SAME",
        encoder="residual",
        encoder_depths=(1, 3, 4, 6, 6, 6),
        decoder_depths=(1, 1, 1, 1, 2),
    )
    model, crop = next(candidates.list_candidates(model, shape, (1.0,) * 2))
    assert (model.widths, model.encoder_depths, crop) == (widths, depths, shape)
    assert model.decoder_depths == (1, 1, 1, 1, 2)[: len(widths) - 1]
    assert model.fault() is None
    assert candidates.set_levels(model, 7, 2).encoder_depths == (1, 3, 4, 6, 6, 6, 6)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("shape", [(300, 200), (17, 90, 60), (3, 3)])
def test_candidates_are_legal_and_ever_smaller(padding, shape):
    model = UNet(padding=padding, deep_supervision=True)
    found = list(candidates.list_candidates(model, shape, (1.0,) * len(shape), space=2))
    volumes = [math.prod(crop) for _, crop in found]
    assert len(found) > 1
    assert volumes == sorted(set(volumes), reverse=True)
    for network, crop in found:
        assert network.geometry(len(crop)).valid_shape(crop) == crop
        assert crop[0] % 2 == 0


def test_widths_are_cut_short_or_doubled():
    assert candidates.extend_widths((64, 128, 256), 2, 2) == (64, 128)
    assert candidates.extend_widths((16, 32), 5, 2) == (16, 32, 64, 128, 256)
    assert candidates.extend_widths((100, 200), 4, 3) == (100, 200, 320, 320)
    assert candidates.extend_widths((600, 2000), 3, 2) == (600, 2000, 2000)
