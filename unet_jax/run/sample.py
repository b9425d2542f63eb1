"""Mode `sample`: generates images with a diffusion model, and scores such a model."""

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tifffile
from ml_collections import ConfigDict
from PIL import Image

from unet_jax import logs, pictures
from unet_jax.arrays import cut_window
from unet_jax.build import field_checks
from unet_jax.build.evaluation import EvaluationParts
from unet_jax.build.generation import GenerationParts, build_generation
from unet_jax.build.preprocessing import check_preprocessing
from unet_jax.checkpoint import check_trained
from unet_jax.data.examples import Examples
from unet_jax.data.normalize import Scale
from unet_jax.errors import UserError
from unet_jax.progress import show_progress
from unet_jax.run import run_folder
from unet_jax.run.scoring import PICTURES, SPLIT_NAMES, Evaluation
from unet_jax.text import finite_or_none

SHEET = "samples.png"


def sample(config: ConfigDict, workdir: Path, *, output: str, count: int = 16) -> int:
    """Generates images with the best checkpoint of a generator.

    Image i depends only on the run, `config.predict.seed` and i: a larger count adds
    images, and another seed gives other images. `config.method.sampling_steps` may be
    smaller than in training, which is faster. With several processes, process 0
    generates and writes all images.

    Args:
      config: the config of the run; `predict` and the sampling options of `method` may
        be changed.
      workdir: the run folder.
      output: the folder for `sample_0000.png` and so on (TIFF for images that PNG
        cannot store) and the contact sheet `samples.png`.
      count: number of images.

    Returns:
      0.

    Raises:
      UserError: the run is not a generator, or the folder is not writable.
    """
    check_trained(workdir)
    run_folder.create_or_check(workdir, config)
    target = Path(output).expanduser()
    run_folder.create(target, "output")
    with run_folder.open_checkpoints(workdir, config) as checkpoints:
        about = checkpoints.load_metadata(checkpoints.best)
        preprocessing = check_preprocessing(about["preprocessing"], workdir)
        if not preprocessing["samples"]:
            raise UserError(
                f"{workdir} is not the run of a generator; use --mode=predict or train "
                "a generator with --config=configs/generate.py"
            )
        parts = build_generation(config, preprocessing)
        like = parts.devices.abstract(parts.variables)
        _, variables = checkpoints.load_best(like)
    if jax.process_index() != 0:
        return 0
    drawn = []
    with show_progress("generating images", count) as report:
        for i, image in enumerate(generate_images(parts, variables, config, count)):
            raw = _denormalize(image, preprocessing["samples"])
            _write_image(target / f"sample_{i:04d}", raw)
            drawn.append(pictures.draw_image(image))
            report(len(drawn))
    sheet = pictures.make_contact_sheet(drawn, columns=math.ceil(math.sqrt(count)))
    logs.write_file(target / SHEET, pictures.encode_png(sheet))
    logs.say(f"wrote {count} images and {SHEET} to {target}/")
    return 0


def generate_images(
    parts: GenerationParts, variables: Any, config: ConfigDict, count: int
) -> Iterator[np.ndarray]:
    """Yields `count` generated images `f32[*S, C]`, normalised."""
    devices = parts.devices
    size = -(-min(config.batch_size, count) // devices.count) * devices.count
    key = jax.random.key(field_checks.read_section(config, "predict")["seed"])
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    for start in range(0, count, size):
        # the last batch is generated whole, to avoid compiling another batch size
        keys = devices.put_rows(fold(key, np.arange(start, start + size)))
        images = parts.method.sample(variables, keys, parts.shape)
        yield from np.asarray(images)[: count - start]


def score_generator(
    parts: EvaluationParts, variables: Any, split: str, examples: Examples
) -> Evaluation:
    """Scores a generator: the loss of every real image, and a sheet of generated ones.

    Images may have any size. The middle of each is scored, in the shape of a training
    crop, mirrored where the image is smaller. The sheet shows the first of these real
    images above generated images of the same shape; process 0 adds the latter.
    """
    key = jax.random.key(0)
    variables = parts.prediction.inference.devices.put_state(variables)
    per_image, shown = [], []
    with show_progress(
        f"evaluating {SPLIT_NAMES[split]} images", len(examples)
    ) as report:
        for i in range(len(examples)):
            example = examples[i]
            whole, crop = example["image"], parts.crop
            origin = [(n - c) // 2 for n, c in zip(whole.shape, crop, strict=False)]
            image = cut_window(whole, origin, crop)
            batch = {"image": image[None], "seed": np.array([i], np.uint32)}
            loss = parts.method.val_loss(variables, batch, key)
            per_image.append({"id": example["id"], "loss": float(loss[0])})
            shown += [image] if i < PICTURES else []
            report(i + 1)
    columns = len(shown)
    if jax.process_index() == 0:
        keys = jax.random.split(key, PICTURES)
        shape = shown[0].shape
        with show_progress("generating images"):
            shown += list(np.asarray(parts.method.sample(variables, keys, shape)))
    sheet = [pictures.draw_image(image) for image in shown]
    losses = [image["loss"] for image in per_image]
    for image in per_image:
        image["loss"] = finite_or_none(image["loss"])
    return Evaluation(
        scores={f"{split}/loss": finite_or_none(float(np.mean(losses)))},
        per_image=per_image,
        confusion=None,
        reliability=None,
        object_errors=None,
        picture=pictures.make_contact_sheet(sheet, columns),
    )


def _denormalize(image: np.ndarray, about: Mapping[str, Any]) -> np.ndarray:
    """Returns an image with the scale and the dtype of the training images."""
    scale = Scale(np.asarray(about["offset"]), np.asarray(about["width"]))
    raw, dtype = scale.invert(image), np.dtype(about["dtype"])
    if dtype.kind not in "ui":
        return raw.astype(np.float32)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(raw), limits.min, limits.max).astype(dtype)


def _write_image(path: Path, image: np.ndarray) -> None:
    """Writes an image `[*S, C]` as PNG, or as TIFF if PNG cannot store it."""
    plain, file = image[..., 0] if image.shape[-1] == 1 else image, io.BytesIO()
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] in (1, 3):
        path = path.with_suffix(".png")
        Image.fromarray(plain).save(file, "PNG")
    else:
        path = path.with_suffix(".tif")
        tifffile.imwrite(file, plain)
    logs.write_file(path, file.getvalue())
