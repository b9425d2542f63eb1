"""Writes the folder for the page that predicts in a browser."""

import json

import numpy as np

from unet_jax.errors import UserError
from unet_jax.export.description import make_metadata, name_output
from unet_jax.export.onnx_pipeline import check_onnx, write_onnx
from unet_jax.export.onnx_session import open_onnx
from unet_jax.run.exporting.job import Files, Job
from unet_jax.run.exporting.samples import Samples, compare

WEB_FOLDER = "web"
VERSION = 1  # of the keys that the page reads
# By this name the page refuses the other model.onnx of an export, which normalises.
INPUT = "normalized_image"
# The result of each task, which the page knows how to decide and to draw.
KINDS = {"semantic": "exclusive", "multilabel": "independent", "flow": "objects"}
NORMALIZATIONS = ("fixed", "percentile", "standard")  # of web/normalize.js


def check_page(job: Job) -> None:
    """Raises UserError for a prediction that the page cannot compute or show."""
    p = job.pipeline
    task = job.description["task"]
    if task not in KINDS:
        raise UserError(
            f"the page shows classes and objects, but not the task {task!r}"
        )
    if p.axes != 2:
        raise UserError("the page shows images, but not volumes")
    if p.normalize["name"] not in NORMALIZATIONS:
        raise UserError(
            f"the page normalises by {', '.join(NORMALIZATIONS)}, but not by "
            f"{p.normalize['name']!r}"
        )
    check_onnx(p, job.precision)


def write_page(job: Job, samples: Samples) -> Files:
    """Writes model.onnx, which takes normalised images, and model.json to a folder.

    The page normalises the whole image and then predicts tiles, so that the tiles do
    not change the normalisation.
    """
    p = job.pipeline
    page = {
        "version": VERSION,
        "kind": KINDS[job.description["task"]],
        "blend": p.model.geometry(p.axes).halo is None,
    }
    image = {**job.description["input"], "name": INPUT}
    description = {**job.description, "input": image, "page": page}
    name = f"{WEB_FOLDER}/model.onnx"
    content = write_onnx(
        p,
        name_output(p),
        make_metadata(description),
        raw=False,
        precision=job.precision,
        input_name=INPUT,
    )
    session = open_onnx(content)

    def predict(batch: np.ndarray) -> np.ndarray:
        return session(np.stack([job.normalize(job.convert(image)) for image in batch]))

    difference = compare(name, predict, samples, job.precision)
    text = json.dumps(description, indent=1).encode()
    contents = {name: content, f"{WEB_FOLDER}/model.json": text}
    return Files(contents, difference, "onnxruntime")
