import numpy as np
import pytest

from unet_jax.data.record import RecordStats
from unet_jax.run.plan import rules

FIVE = (0.0, 10.0, 50.0, 90.0, 100.0)


def fact(
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
    ("spacings", "want"),
    [
        ([(), ()], ()),
        ([(1.0, 1.0), ()], ()),  # one is unknown
        ([(3.0, 1.0)] * 3, ()),  # all the same, whatever they are
        ([(3.0, 1.0, 1.0)] * 3, (3.0, 1.0, 1.0)),  # what volumes to come are brought to
        ([(1.0, 1.0), (1.0, 1.0001)], ()),  # but for rounding
        ([(3.0, 1.0), (5.0, 1.0), (4.0, 2.0)], (4.0, 1.0)),
    ],
)
def test_spacing_is_the_median_where_images_differ(spacings, want):
    assert rules.spacing([fact(spacing=s) for s in spacings]).value == want


def test_median_of_shapes_rounds_up():
    assert rules.median([(3, 50), (4, 90), (10, 70)]) == (4, 70)
    assert rules.median([(3, 50), (4, 50)]) == (4, 50)


@pytest.mark.parametrize(
    ("images", "least", "replicas", "most", "want"),
    [
        (100, 2, 1, 32, 5),  # 5 %
        (100, 2, 4, 32, 4),  # that four devices share
        (10, 2, 1, 32, 2),  # of ten, 5 % would be none
        (10, 1, 1, 1, 1),
        (10, 2, 8, 32, 8),
        (10_000, 2, 1, 32, 32),
    ],
)
def test_batch(images, least, replicas, most, want):
    got = rules.batch_size(
        images * 64**2, 64**2, least=least, replicas=replicas, most=most
    )
    assert got == want


def test_normalisation():
    plain, hot = fact(), fact(intensity=(0.0, 10.0, 50.0, 90.0, 4000.0))
    flat = fact(intensity=(50.0, 50.0, 50.0, 51.0, 51.0))
    assert rules.normalize([plain] * 9 + [hot]).value == {"name": "standard"}
    assert rules.normalize([plain] * 7 + [hot] * 3).value["name"] == "percentile"
    assert rules.normalize([plain] * 7 + [flat] * 3).value == {"name": "unit"}
    # 12 bits of 16 leave nothing of `unit`, and floats it leaves as they are
    dark = [one._replace(dtype="uint16") for one in [plain] * 7 + [flat] * 3]
    assert rules.normalize(dark).value == {"name": "standard"}
    # what is so rare may be what is looked for
    spots = fact(intensity=hot.intensity[0], pixels=((0, 999), (1, 1)))
    assert rules.normalize([spots] * 10).value == {"name": "standard"}


def test_shares_rare_classes_and_a_sparse_foreground():
    facts = [fact(pixels=((-1, 500), (0, 900), (1, 95))), fact(pixels=((2, 5),))]
    parts = rules.shares(facts)
    assert parts == {0: 0.9, 1: 0.095, 2: 0.005}
    rare, why = rules.rarest(parts, "abc")
    assert rare
    assert why == "c, the rarest class, is 0.50% of the pixels"
    assert not rules.rarest({0: 0.98, 1: 0.02}, "ab")[0]
    thin = {0: 0.95, 1: 0.05}
    assert rules.sparse(thin, (32, 32), (64, 32))
    assert not rules.sparse(thin, (64, 32), (64, 32))  # every crop shows all
    assert not rules.sparse({0: 0.5, 1: 0.5}, (32, 32), (64, 64))
