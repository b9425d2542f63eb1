"""The verb `sample`: images drawn by a generator, and the scores of one."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tifffile
from ml_collections import ConfigDict
from PIL import Image

from unet_jax import logs, pictures
from unet_jax.arrays import window
from unet_jax.build import checks
from unet_jax.build.training import Generating, Judging, generating
from unet_jax.checkpoint import Checkpoints
from unet_jax.data.examples import Examples
from unet_jax.data.normalize import Scale
from unet_jax.errors import UserError
from unet_jax.run import folder
from unet_jax.run.judge import PICTURED, Judged

SHEET = "samples.png"


def sample(config: ConfigDict, workdir: Path, *, output: str, count: int = 16) -> int:
    """Draws images with the best checkpoint of a generator.

    Image i depends on the run, `config.predict.seed` and i alone: a larger count adds
    images, another seed gives other ones. Fewer `config.method.sampling_steps` than the
    run was trained with are faster. Process 0 of several draws and writes all.

    Args:
      config: of the run; `predict` and the options of sampling as they are wanted now.
      workdir: the run folder.
      output: the folder to write to: `sample_0000.png` and so on, TIFF where a PNG
        cannot hold them, and the contact sheet `samples.png`.
      count: how many images.

    Raises:
      UserError: the run is no generator, or the folder cannot be written to.
    """
    folder.check_trained(workdir)
    folder.claim(workdir, config)
    target = Path(output).expanduser()
    folder.check_output(target)
    with Checkpoints(workdir, folder.chosen_by(workdir, config)) as checkpoints:
        best = checkpoints.best
        preprocessing = checkpoints.about(best)["preprocessing"]
        if not preprocessing["samples"]:
            raise UserError(
                f"{workdir} is no generator; use --mode=predict, or train a generator: "
                "--config=configs/generate.py"
            )
        parts = generating(config, preprocessing)
        variables = checkpoints.variables(best, parts.here.abstract(parts.variables))
    if jax.process_index() != 0:
        return 0
    drawn = []
    for i, image in enumerate(draw(parts, variables, config, count)):
        raw = _raw(image, preprocessing["samples"])
        _write(target / f"sample_{i:04d}", raw)
        drawn.append(pictures.grey(image))
    columns = math.ceil(math.sqrt(count))
    logs.write(target / SHEET, pictures.png(pictures.contact_sheet(drawn, columns)))
    logs.say(f"wrote {count} images and {SHEET} to {target}/")
    return 0


def draw(
    parts: Generating, variables: Any, config: ConfigDict, count: int
) -> Iterator[np.ndarray]:
    """Yields `count` images `f32[*S, C]`, normalised."""
    size = -(-min(config.batch_size, count) // parts.here.count) * parts.here.count
    key = jax.random.key(checks.section(config, "predict")["seed"])
    for start in range(0, count, size):
        # the last batch has the size of the others, so that nothing is compiled again
        keys = jax.vmap(jax.random.fold_in, (None, 0))(
            key, np.arange(start, start + size)
        )
        images = parts.method.sample(variables, parts.here.put_rows(keys), parts.shape)
        yield from np.asarray(images)[: count - start]


def judge_samples(
    parts: Judging, variables: Any, split: str, examples: Examples
) -> Judged:
    """Scores a generator: the loss of every real image, and a sheet of drawn ones.

    Images may have any sizes. The middle of each is scored, in the shape of a training
    crop, mirrored where the image is smaller. The sheet shows the first of these above
    images of the same shape that process 0 draws.
    """
    key = jax.random.key(0)
    variables = parts.predicting.inference.here.put_state(variables)
    images, shown = [], []
    for i in range(len(examples)):
        example = examples[i]
        image = _middle(example["image"], parts.crop)
        batch = {"image": image[None], "seed": np.array([i], np.uint32)}
        loss = parts.method.score(variables, batch, key)
        images.append({"id": example["id"], "loss": float(loss[0])})
        shown += [image] if i < PICTURED else []
    columns = len(shown)
    if jax.process_index() == 0:
        keys = jax.random.split(key, PICTURED)
        shape = shown[0].shape
        shown += list(np.asarray(parts.method.sample(variables, keys, shape)))
    sheet = [pictures.grey(image) for image in shown]
    return Judged(
        scores={f"{split}/loss": float(np.mean([image["loss"] for image in images]))},
        images=images,
        confusion=None,
        reliability=None,
        drawn=pictures.contact_sheet(sheet, columns),
    )


def _middle(image: np.ndarray, crop: tuple[int, ...]) -> np.ndarray:
    """Returns the middle `[*crop, C]` of an image, mirrored where it is smaller."""
    origin = [(n - c) // 2 for n, c in zip(image.shape, crop, strict=False)]
    return window(image, origin, crop)


def _raw(image: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """An image with the scale and the type of the training images."""
    scale = Scale(np.asarray(about["offset"]), np.asarray(about["width"]))
    raw, dtype = scale.invert(image), np.dtype(about["dtype"])
    if dtype.kind not in "ui":
        return raw.astype(np.float32)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(raw), limits.min, limits.max).astype(dtype)


def _write(path: Path, image: np.ndarray) -> None:
    """Writes an image `[*S, C]` as PNG, or as TIFF where a PNG cannot hold it."""
    plain = image[..., 0] if image.shape[-1] == 1 else image
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] in (1, 3):
        Image.fromarray(plain).save(path.with_suffix(".png"))
    else:
        tifffile.imwrite(path.with_suffix(".tif"), plain)
