import numpy as np
import pytest

from unet_jax.data.record import RecordStats
from unet_jax.run.planning import rules

FIVE = (0.0, 10.0, 50.0, 90.0, 100.0)


def record(
    shape=(64, 64),
    *,
    spacing=(),
    dtype="uint8",
    intensity=FIVE,
    pixels=((0, 70), (1, 30)),
):
    return RecordStats(
        id="a",
        split="train",
        image="",
        mask="",
        kind="array",
        shape=shape,
        channels=1,
        dtype=dtype,
        spacing=spacing,
        intensity=(intensity,),
        pixels=dict(pixels),
        values={},
        objects=None,
        digest="",
        thumbnail=np.zeros(1),
    )


@pytest.mark.parametrize(
    ("spacings", "expected"),
    [
        ([(), ()], ()),
        ([(1.0, 1.0), ()], ()),  # one spacing is unknown
        ([(3.0, 1.0)] * 3, ()),  # images with one spacing are not resampled
        ([(3.0, 1.0, 1.0)] * 3, (3.0, 1.0, 1.0)),  # volumes keep theirs
        ([(1.0, 1.0), (1.0, 1.0001)], ()),  # equal up to rounding
        ([(3.0, 1.0), (5.0, 1.0), (4.0, 2.0)], (4.0, 1.0)),
    ],
)
def test_spacing_is_the_median_where_images_differ(spacings, expected):
    assert rules.choose_spacing([record(spacing=s) for s in spacings]).value == expected


def test_median_of_shapes_rounds_up():
    assert rules.compute_median_shape([(3, 50), (4, 90), (10, 70)]) == (4, 70)
    assert rules.compute_median_shape([(3, 50), (4, 50)]) == (4, 50)


@pytest.mark.parametrize(
    ("images", "least", "replicas", "most", "expected"),
    [
        (100, 2, 1, 32, 5),  # 5 %
        (100, 2, 4, 32, 4),  # a multiple of four devices
        (10, 2, 1, 32, 2),  # 5 % of ten is less than one
        (10, 1, 1, 1, 1),
        (10, 2, 8, 32, 8),
        (10_000, 2, 1, 32, 32),
    ],
)
def test_batch_size(images, least, replicas, most, expected):
    got = rules.choose_batch_size(
        images * 64**2, 64**2, least=least, replicas=replicas, most=most
    )
    assert got == expected


def test_choice_of_the_normalization():
    plain, hot = record(), record(intensity=(0.0, 10.0, 50.0, 90.0, 4000.0))
    flat = record(intensity=(50.0, 50.0, 50.0, 51.0, 51.0))
    choose = rules.choose_normalization
    assert choose([plain] * 9 + [hot]).value == {"name": "standard"}
    assert choose([plain] * 7 + [hot] * 3).value["name"] == "percentile"
    assert choose([plain] * 7 + [flat] * 3).value == {"name": "unit"}
    # with 12 of 16 bits `unit` would leave almost no range
    dark = [one._replace(dtype="uint16") for one in [plain] * 7 + [flat] * 3]
    assert choose(dark).value == {"name": "standard"}
    # hot pixels as rare as these may be the foreground
    spots = record(intensity=hot.intensity[0], pixels=((0, 999), (1, 1)))
    assert choose([spots] * 10).value == {"name": "standard"}
    assert choose([spots] * 10, background=False).value["name"] == "percentile"


def test_rare_classes_and_a_sparse_foreground():
    records = [record(pixels=((-1, 500), (0, 900), (1, 95))), record(pixels=((2, 5),))]
    shares = rules.compute_class_shares(records)
    assert shares == {0: 0.9, 1: 0.095, 2: 0.005}
    assert rules.compute_class_shares([]) == {}
    rare, reason = rules.find_rarest_class(shares, "abc")
    assert rare
    assert reason == "c, the rarest class, is 0.50% of the pixels"
    assert not rules.find_rarest_class({0: 0.98, 1: 0.02}, "ab")[0]
    thin, describe = {0: 0.95, 1: 0.05}, rules.describe_sparse_foreground
    assert describe(thin, (32, 32), (64, 32))
    assert not describe(thin, (64, 32), (64, 32))  # a crop is the whole image
    assert not describe({0: 0.5, 1: 0.5}, (32, 32), (64, 64))
    assert not describe(thin, (32, 32), (64, 32), background=False)
