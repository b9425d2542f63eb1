"""Real sets, where they are at hand: what is known of them is found."""

import pytest

from unet_jax.data import folder
from unet_jax.data.dataset_report import total_pixels

pytestmark = pytest.mark.slow


def percent(records):
    pixels = total_pixels(records)
    return {k: round(100 * n / sum(pixels.values()), 2) for k, n in pixels.items()}


def test_isbi2012(real_data):
    report = folder(root=str(real_data("isbi2012"))).report
    assert len(report.records) == 30
    assert {(r.shape, r.dtype, r.kind) for r in report.records} == {
        ((512, 512), "uint8", "png")
    }
    shares = percent(report.records)
    assert shares == pytest.approx({0: 22.0, 1: 78.0}, abs=0.05)
    masks, series = report.issues
    assert masks.text.startswith("test: there are no masks")
    assert "train 00 to 21, val 22 to 25, test 26 to 29" in series.text


def test_dsb2018(real_data):
    root = real_data("dsb2018")
    splits = folder(root=str(root))
    records = splits.report.records
    table = [line.split(",") for line in (root / "train/index.csv").open()][1:]
    known = {row[0]: row for row in table}
    assert len(records) == 110
    assert not splits.report.errors
    assert splits.train.channels == 3
    for record in records:
        _, height, width, mode, _, nuclei, share, _ = known[record.id.split("/")[1]]
        assert record.shape == (int(height), int(width))
        assert (record.channels == 1) == (mode == "gray")
        assert record.objects == int(nuclei)
        foreground = record.pixels.get(1, 0) / sum(record.pixels.values())
        assert foreground == pytest.approx(float(share), abs=1e-4)


def test_msd_hippocampus(real_data):
    pytest.importorskip("nibabel")
    report = folder(root=str(real_data("msd_hippocampus")), axes=3).report
    records = report.records
    assert len(records) == 40
    assert {r.spacing for r in records} == {(1.0, 1.0, 1.0)}
    assert {r.dtype for r in records} == {"uint8", "float32"}
    for axis, (low, high) in enumerate([(24, 47), (40, 59), (31, 43)]):  # Z, Y, X
        assert low <= min(r.shape[axis] for r in records)
        assert max(r.shape[axis] for r in records) <= high
    shares = percent(records)
    assert shares == pytest.approx({0: 94.75, 1: 2.73, 2: 2.52}, abs=0.15)  # of 260
    assert not report.errors
