"""Real sets, where they lie beside the checkout: what is known of them is found."""

from pathlib import Path

import pytest

from unet_jax.data import folder
from unet_jax.data.dataset_report import total_pixels

DATA = Path(__file__).parents[4] / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")


def percent(stats):
    pixels = total_pixels(stats)
    return {k: round(100 * n / sum(pixels.values()), 2) for k, n in pixels.items()}


@needs_data
def test_isbi2012():
    report = folder(root=str(DATA / "isbi2012")).report
    assert len(report.records) == 30
    assert {(f.shape, f.dtype, f.kind) for f in report.records} == {
        ((512, 512), "uint8", "png")
    }
    shares = percent(report.records)
    assert shares == pytest.approx({0: 22.0, 1: 78.0}, abs=0.05)
    (issue,) = report.issues
    assert issue.text.startswith("test: there are no masks")


@needs_data
def test_dsb2018():
    root = DATA / "dsb2018"
    splits = folder(root=str(root))
    stats = splits.report.records
    table = [line.split(",") for line in (root / "train/index.csv").open()][1:]
    known = {row[0]: row for row in table}
    assert len(stats) == 110
    assert not splits.report.errors
    assert splits.train.channels == 3
    for record in stats:
        _, height, width, mode, _, nuclei, share, _ = known[record.id.split("/")[1]]
        assert record.shape == (int(height), int(width))
        assert (record.channels == 1) == (mode == "gray")
        assert record.objects == int(nuclei)
        foreground = record.pixels.get(1, 0) / sum(record.pixels.values())
        assert foreground == pytest.approx(float(share), abs=1e-4)


@needs_data
def test_msd_hippocampus():
    pytest.importorskip("nibabel")
    report = folder(root=str(DATA / "msd_hippocampus"), axes=3).report
    stats = report.records
    assert len(stats) == 40
    assert {f.spacing for f in stats} == {(1.0, 1.0, 1.0)}
    assert {f.dtype for f in stats} == {"uint8", "float32"}
    for axis, (low, high) in enumerate([(24, 47), (40, 59), (31, 43)]):  # Z, Y, X
        assert low <= min(f.shape[axis] for f in stats)
        assert max(f.shape[axis] for f in stats) <= high
    shares = percent(stats)
    assert shares == pytest.approx({0: 94.75, 1: 2.73, 2: 2.52}, abs=0.15)  # of 260
    assert not report.errors
