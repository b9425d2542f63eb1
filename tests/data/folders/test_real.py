"""Real sets, where they are at hand: what is known of them is found."""

import pytest

from unet_jax.data import folder
from unet_jax.data.dataset_report import total_pixels

pytestmark = pytest.mark.slow


def percent(facts):
    pixels = total_pixels(facts)
    return {k: round(100 * n / sum(pixels.values()), 2) for k, n in pixels.items()}


def test_isbi2012(real_data):
    account = folder(root=str(real_data("isbi2012"))).report
    assert len(account.records) == 30
    assert {(f.shape, f.dtype, f.kind) for f in account.records} == {
        ((512, 512), "uint8", "png")
    }
    shares = percent(account.records)
    assert shares == pytest.approx({0: 22.0, 1: 78.0}, abs=0.05)
    (fault,) = account.issues
    assert fault.text.startswith("test: there are no masks")


def test_dsb2018(real_data):
    root = real_data("dsb2018")
    splits = folder(root=str(root))
    facts = splits.report.records
    table = [line.split(",") for line in (root / "train/index.csv").open()][1:]
    known = {row[0]: row for row in table}
    assert len(facts) == 110
    assert not splits.report.errors
    assert splits.train.channels == 3
    for fact in facts:
        _, height, width, mode, _, nuclei, share, _ = known[fact.id.split("/")[1]]
        assert fact.shape == (int(height), int(width))
        assert (fact.channels == 1) == (mode == "gray")
        assert fact.objects == int(nuclei)
        foreground = fact.pixels.get(1, 0) / sum(fact.pixels.values())
        assert foreground == pytest.approx(float(share), abs=1e-4)


def test_msd_hippocampus(real_data):
    pytest.importorskip("nibabel")
    account = folder(root=str(real_data("msd_hippocampus")), axes=3).report
    facts = account.records
    assert len(facts) == 40
    assert {f.spacing for f in facts} == {(1.0, 1.0, 1.0)}
    assert {f.dtype for f in facts} == {"uint8", "float32"}
    for axis, (low, high) in enumerate([(24, 47), (40, 59), (31, 43)]):  # Z, Y, X
        assert low <= min(f.shape[axis] for f in facts)
        assert max(f.shape[axis] for f in facts) <= high
    shares = percent(facts)
    assert shares == pytest.approx({0: 94.75, 1: 2.73, 2: 2.52}, abs=0.15)  # of 260
    assert not account.errors
