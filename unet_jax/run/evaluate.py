"""The verb `evaluate`: the best checkpoint of a run, judged on the test split."""

import json
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build import Parts, build
from unet_jax.checkpoint import FOLDER, Checkpoints
from unet_jax.metrics.calibration import reliability
from unet_jax.run import folder, reporting
from unet_jax.run.judge import judge


def evaluate(config: ConfigDict, workdir: Path) -> int:
    """Restores the best checkpoint and writes the scores of the test split.

    Raises:
      UserError: the folder holds no checkpoint, or one of another config.
    """
    folder.check_trained(workdir)
    parts = build(config, split=folder.split(workdir, config))
    folder.claim(workdir, config)
    with Checkpoints(workdir, folder.chosen_by(workdir, config)) as checkpoints:
        report(config, workdir, parts, checkpoints)
    return 0


def report(
    config: ConfigDict, workdir: Path, parts: Parts, checkpoints: Checkpoints
) -> None:
    """Judges the best checkpoint: a table, `scores.json`, `report.html`, a picture."""
    best = checkpoints.best
    shapes = jax.eval_shape(parts.init, jax.random.key(0))
    state = checkpoints.restore(best, parts.layout.abstract(shapes))
    judged = judge(parts, state.variables, "test", parts.test, as_predicted=True)
    if jax.process_index() != 0:
        return
    images = len(parts.test)
    about = {
        "step": best,
        "checkpoint": f"{FOLDER}/{best}",
        "images": images,
        **judged.scores,
        "predict": folder.as_json(config)["predict"],
        "true_objects": reporting.true_objects(parts),
        "reductions": {name: metric.reduction for name, metric in parts.metrics},
        "confusion": judged.confusion.tolist(),
        "reliability": {
            name: [None if np.isnan(x) else x for x in values.tolist()]
            for name, values in reliability(judged.reliability).items()
        },
        "per_image": judged.images,
    }
    text = json.dumps(about, indent=2) + "\n"
    logs.write(workdir / folder.SCORES, text.encode())
    logs.write(workdir / folder.PICTURE, pictures.png(judged.drawn))
    page = reporting.html(config, workdir, parts, state.variables, judged, best)
    logs.write(workdir / folder.REPORT, page.encode())
    title = f"{config.name}: {images} test images, checkpoint of step {best}"
    logs.table(title, judged.scores, parts.predicting.classes)
    logs.say(f"wrote {workdir}/: {folder.SCORES}, {folder.REPORT}, {folder.PICTURE}")
