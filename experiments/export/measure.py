"""Measures the accuracy, the size and the speed of each exported file.

python experiments/export/measure.py RUN [EDGE]

RUN is the folder of a trained run on images, EDGE the edge of the test image in pixels.
Nothing else should run on the machine. It prints a table and writes results.csv.
"""

import csv
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from unet_jax import Predictor, load_config  # noqa: E402  after the path is set
from unet_jax.export.onnx_session import open_onnx  # noqa: E402
from unet_jax.export.stablehlo import open_stablehlo  # noqa: E402
from unet_jax.inference import Request  # noqa: E402
from unet_jax.run import export  # noqa: E402

ROUNDS = 10


def main(run: Path, edge: int) -> None:
    """Exports the run, compares and times its files, and writes the table."""
    predictor = Predictor.load(run, runtime="xla")
    rng = np.random.default_rng(0)
    channels = predictor.setup.preprocessing["channels"]
    image = rng.integers(0, 256, (edge, edge, channels)).astype(np.float32)
    request = Request(prediction=True)

    def predict(image: np.ndarray) -> np.ndarray:
        return predictor.predict_image(image, None, request)["prediction"]

    with tempfile.TemporaryDirectory() as folder:
        contenders = {"Predictor": (predict, 0), **_open(run, Path(folder))}
        expected = predict(image)
        results = {name: one(image) for name, (one, _) in contenders.items()}
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, (one, _) in contenders.items():
                start = time.perf_counter()
                one(image)
                times[name].append(time.perf_counter() - start)
    usual = statistics.median(times["Predictor"])
    rows = [
        {
            "file": name,
            "bytes": size,
            "difference": f"{np.abs(results[name] - expected).max():.2g}",
            "speed": f"{usual / statistics.median(times[name]):.2f}",
            "slowest": f"{usual / max(times[name]):.2f}",
            "fastest": f"{usual / min(times[name]):.2f}",
        }
        for name, (_, size) in contenders.items()
    ]
    with (HERE / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print("", *rows[0], "", sep=" | ")
    for row in rows:
        print("", *row.values(), "", sep=" | ")


def _open(run: Path, folder: Path) -> dict[str, tuple[Callable, int]]:
    """Returns a function and the size of each file."""
    config: Any = load_config(f"saved:{run}")
    export(config, run, output=str(folder / "float32"))
    config.export.formats, config.export.precision = ("onnx",), "float16"
    export(config, run, output=str(folder / "float16"))
    found: dict[str, tuple[Callable, int]] = {}
    for precision in ("float32", "float16"):
        content = (folder / precision / "model.onnx").read_bytes()
        found[f"model.onnx, {precision}"] = _first(open_onnx(content)), len(content)
    content = (folder / "float32/model.stablehlo").read_bytes()
    found["model.stablehlo"] = _first(open_stablehlo(content)), len(content)
    return found


def _first(function: Callable) -> Callable:
    """Returns the function for one image instead of a batch."""
    return lambda image: function(image[None])[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 512)
