"""The survey of a folder: large images are read in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(0)
SIDE = 16_384
STATUS = Path("/proc/self/status")
# The peak is that of a process of its own. `ru_maxrss` would include its parent's.
SURVEY = f"""
import json, re, sys
from unet_jax.data import folder
splits = folder(root=sys.argv[1], val=0.34, test=0.34)
pixels = [[s.pixels[0], s.pixels[1]] for s in splits.sources.values()]
peak = 1024 * int(re.search("VmHWM: *(.*) kB", open("{STATUS}").read())[1])
print(json.dumps([peak, pixels, [str(i) for i in splits.report.issues]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="only Linux has /proc")
def test_an_image_of_16384_pixels_a_side_needs_less_than_a_gigabyte(tmp_path):
    """It has 256 MiB, as has its mask; labels of 32 bits would need 1 GiB."""
    how = {"tile": (512, 512), "compression": "zlib"}
    sides = SIDE, 512, 512
    for number, side in enumerate(sides):
        image = np.full((side, side), 9, np.uint8)
        image[:512, :512] = RNG.integers(0, 256, (512, 512))
        mask = np.zeros((side, side), np.uint8)
        mask[: 100 + number, 50:250] = 255
        for kind, pixels in (("images", image), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / kind / f"{number}.tif", pixels, **how)
    command = [sys.executable, "-c", SURVEY, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    peak, pixels, issues = json.loads(done.stdout.splitlines()[-1])
    assert issues == []
    drawn = [foreground for _, foreground in pixels]
    assert sorted(drawn) == [200 * 100, 200 * 101, 200 * 102]
    assert sum(map(sum, pixels)) == sum(side**2 for side in sides)
    assert peak < 2**30, f"{peak:,} bytes"
