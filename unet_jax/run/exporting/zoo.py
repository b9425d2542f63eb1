"""Writes the folder for the BioImage Model Zoo."""

import io
import re

import numpy as np
from PIL import Image

from unet_jax.errors import UserError
from unet_jax.export import bioimageio as zoo
from unet_jax.export.description import make_metadata, name_output
from unet_jax.export.onnx_pipeline import check_onnx, write_onnx
from unet_jax.export.onnx_session import open_onnx
from unet_jax.run.exporting.job import Files, Job
from unet_jax.run.exporting.readme import TILES
from unet_jax.run.exporting.samples import Samples, compare

BIOIMAGEIO_FOLDER = "bioimageio"
COVER_SIZE = (640, 320)
UNKNOWN = "unknown"  # the format needs an author


def check_license(license: str) -> None:
    """Raises UserError for a licence that is no SPDX identifier; '' states none."""
    from packaging.licenses import (
        InvalidLicenseExpression,
        canonicalize_license_expression,
    )

    if not license:
        return
    try:
        known = canonicalize_license_expression(license)
    except InvalidLicenseExpression:
        known = ""
    single = re.fullmatch("[A-Za-z0-9.-]+", known) and "LicenseRef-" not in known
    if single and known == license:
        return
    hint = f"did you mean {known!r}?" if single else "such as CC-BY-4.0; '': none"
    raise UserError(
        f"config.export.license={license!r} is no SPDX identifier; take one of "
        f"https://spdx.org/licenses; {hint}"
    )


def check_zoo_model(job: Job) -> None:
    """Raises UserError for a network that the format cannot hold."""
    check_onnx(job.pipeline)


def write_zoo_model(job: Job, samples: Samples) -> Files:
    """Writes rdf.yaml, model.onnx, test images, a cover and a README to a folder."""
    import yaml

    pipeline = job.pipeline._replace(channels=job.pipeline.network_channels)
    raw = zoo.takes_raw_images(pipeline)
    content = write_onnx(
        pipeline._replace(dtype=np.dtype(np.float32)),
        name_output(pipeline),
        make_metadata(job.description),
        raw=raw,
    )
    session = open_onnx(content)

    def predict(batch: np.ndarray) -> np.ndarray:
        images = [job.convert(image) for image in batch]
        images = images if raw else [job.normalize(image) for image in images]
        return session(np.stack(images).astype(np.float32))

    difference = compare(zoo.WEIGHTS, predict, samples)
    sample = np.stack([job.convert(image) for image in samples.images[-1]])
    files = {
        zoo.WEIGHTS: content,
        zoo.TEST_INPUT: _encode_array(sample.astype(np.float32)),
        zoo.TEST_OUTPUT: _encode_array(samples.predictions[-1]),
        zoo.README: _write_readme(job).encode(),
    }
    if job.picture:
        files[zoo.COVER] = _draw_cover(job.picture)
    description = zoo.describe_zoo_model(
        pipeline,
        name=job.name,
        authors=job.options.authors or (UNKNOWN,),
        license=job.options.license,
        halo=job.halo,
        files=files,
    )
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    files[zoo.DESCRIPTION] = text.encode()
    contents = {f"{BIOIMAGEIO_FOLDER}/{name}": data for name, data in files.items()}
    return Files(contents, difference, "onnxruntime")


def _encode_array(images: np.ndarray) -> bytes:
    """Returns images `[B, *S, C]` as a file of NumPy, with channels first."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(np.moveaxis(images, -1, 1)))
    return file.getvalue()


def _draw_cover(picture: bytes) -> bytes:
    """Returns the picture of predictions on a white page of 2 to 1."""
    with Image.open(io.BytesIO(picture)) as image:
        shown = image.convert("RGB")
    shown.thumbnail(COVER_SIZE)
    page = Image.new("RGB", COVER_SIZE, "white")
    (width, height), (whole, high) = shown.size, COVER_SIZE
    page.paste(shown, ((whole - width) // 2, (high - height) // 2))
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _write_readme(job: Job) -> str:
    border = " x ".join(map(str, job.halo))
    classes = ", ".join(job.pipeline.task.classes) or "none (it predicts values)"
    return f"""# {job.name}

A U-Net trained with unet_jax.

- Classes: {classes}
- Tiles: leave a border of {border} pixels unused. {TILES[job.exact]}
- Channels of an image: {job.pipeline.network_channels}
- Spatial axes: {job.pipeline.axes}

Test it with `bioimageio test rdf.yaml`.

## Validation

The test image is noise, which tells that a program computes the same numbers. Validate
the model on annotated images of your own before you use its results.
"""
