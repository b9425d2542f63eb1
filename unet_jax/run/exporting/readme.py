"""The README of an export: what each file is, and how to use it."""

from collections.abc import Mapping, Sequence
from typing import Any

from unet_jax.export.description import name_channels, name_output
from unet_jax.export.onnx_pipeline import SPACE
from unet_jax.run.exporting.job import Job

RAW = """\
It takes the image as its file has it: it normalises the image, mirrors its border,
computes the network and removes the border. The number of images and their size are
free.
"""
ONNX = """
## model.onnx

{raw}
It needs onnxruntime and NumPy.

- input: `image`, {dtype} [batch, {channels}, {space}]
- output: `{output}`, float32 [batch, {outputs}, {space}]

```python
import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
image = np.zeros((1, {channels}, {sizes}), "{dtype}")  # your image
({output},) = session.run(None, {{"image": image}})
```
"""
STABLEHLO = """
## model.stablehlo

{raw}
It needs jax and flatbuffers: `python load.py image.npy {output}.npy` predicts one image
[{space}, {channels}] without the axis of the batch.

- input: {dtype} [batch, {space}, {channels}]
- output: float32 [batch, {space}, {outputs}]
"""
SAFETENSORS = """
## {weights}

The parameters, and the statistics of norms, of each run. To train further, add

```bash
--config.init_from={weights} \\
  --config.model="{model}"
```
"""
BIOIMAGEIO = """
## bioimageio/

A model of the BioImage Model Zoo: `bioimageio test bioimageio/rdf.yaml`. Tiles leave a
border of {halo} pixels unused. {tiles}
"""
WEB = """
## web/

A model for the page of unet_jax that segments images in a browser:
`./launch.sh web --model=FOLDER`, with the path of this folder. Or drop both files onto
the page. This model.onnx takes normalised images; the page normalises.
"""
TILES = {
    True: "Tiles then equal the whole image.",
    False: "Tiles still differ from the whole image: larger ones differ less.",
}
SECTIONS = {
    "onnx": ONNX,
    "stablehlo": STABLEHLO,
    "safetensors": SAFETENSORS,
    "bioimageio": BIOIMAGEIO,
    "web": WEB,
}


def write_readme(job: Job, formats: Sequence[str]) -> str:
    """Returns the README of the output folder."""
    p = job.pipeline
    space = SPACE[-p.axes :]
    count = len(p.members)
    words = {
        "raw": RAW,
        "dtype": str(p.dtype),
        "channels": p.channels,
        "outputs": p.task.channels,
        "output": name_output(p),
        "space": ", ".join(space),
        "sizes": ", ".join(["64"] * p.axes),
        "weights": "weights.safetensors" if count == 1 else "weights0.safetensors",
        "model": write_literal(job.description["config"]["model"]),
        "halo": " x ".join(map(str, job.halo)),
        "tiles": TILES[job.exact],
    }
    names = "\n".join(f"- {i}: {name}" for i, name in enumerate(name_channels(p)))
    sections = [SECTIONS[name].format(**words) for name in formats]
    averaged = ""
    if count * len(p.views) > 1:
        averaged = f" It is the mean of {count} runs, each in {len(p.views)} views."
    return f"""# {job.name}

A model of unet_jax; model.json describes it.{averaged}

The channels of `{words["output"]}`:

{names}
{"".join(sections)}"""


def write_literal(value: Any) -> str:
    """Returns data of JSON as a Python literal for the command line."""
    if isinstance(value, Mapping):
        pairs = (f"'{key}':{write_literal(inner)}" for key, inner in value.items())
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"({''.join(f'{write_literal(inner)},' for inner in value)})"
    return repr(value)
