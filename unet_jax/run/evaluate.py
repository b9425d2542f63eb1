"""The verb `evaluate`: the best checkpoint of a run, judged on the test split."""

import json
from pathlib import Path

import jax
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build import Parts, build
from unet_jax.checkpoint import FOLDER, Checkpoints
from unet_jax.errors import UserError
from unet_jax.run import folder
from unet_jax.run.judge import judge


def evaluate(config: ConfigDict, workdir: Path) -> int:
    """Restores the best checkpoint and writes the scores of the test split.

    Raises:
      UserError: the folder holds no checkpoint, or one of another config.
    """
    if not (workdir / FOLDER).is_dir():
        raise UserError(
            f"{workdir} holds no checkpoints; train first, or set --workdir"
        )
    parts = build(config)
    folder.claim(workdir, config)
    with Checkpoints(workdir, best_score(parts)) as checkpoints:
        report(config, workdir, parts, checkpoints)
    return 0


def report(
    config: ConfigDict, workdir: Path, parts: Parts, checkpoints: Checkpoints
) -> None:
    """Judges the best checkpoint: a table, `scores.json` and `predictions.png`."""
    best = checkpoints.best
    if best is None:
        raise UserError(f"{workdir / FOLDER} holds no finished checkpoint; train first")
    shapes = jax.eval_shape(parts.init, jax.random.key(0))
    state = checkpoints.restore(best, parts.layout.abstract(shapes))
    scores, drawn = judge(config, parts, state, "test", parts.test)
    if jax.process_index() != 0:
        return
    images = len(parts.test)
    about = {"step": best, "checkpoint": f"{FOLDER}/{best}", "images": images}
    text = json.dumps(about | scores, indent=2) + "\n"
    logs.write(workdir / folder.SCORES, text.encode())
    logs.write(workdir / folder.PICTURE, pictures.png(drawn))
    title = f"{config.name}: {images} test images, checkpoint of step {best}"
    logs.table(title, scores, parts.classes)
    logs.say(f"wrote {workdir / folder.SCORES} and {workdir / folder.PICTURE}")


def best_score(parts: Parts) -> str:
    """The validation score that chooses the best checkpoint; higher is better."""
    return f"val/{parts.metrics[0][0]}"
