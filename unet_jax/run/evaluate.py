"""The verb `evaluate`: scores the best checkpoint of a run on the test split."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build.training import EvaluationParts, build_evaluation
from unet_jax.checkpoint import FOLDER, Checkpoints
from unet_jax.metrics.calibration import reliability
from unet_jax.run import folder, reporting
from unet_jax.run.judge import Judged, judge
from unet_jax.run.sample import judge_samples


def evaluate(config: ConfigDict, workdir: Path) -> int:
    """Restores the best checkpoint and writes the scores of the test split.

    Raises:
      UserError: the folder holds no checkpoint, or one of another config.
    """
    folder.check_trained(workdir)
    folder.claim(workdir, config)
    with Checkpoints(workdir, folder.chosen_by(workdir, config)) as checkpoints:
        preprocessing = checkpoints.load_metadata(checkpoints.best)["preprocessing"]
        parts = build_evaluation(config, preprocessing, folder.notes(workdir, config))
        report(config, workdir, parts, checkpoints)
    return 0


def score(
    parts: EvaluationParts,
    variables: Any,
    split: str,
    examples: Any,
    *,
    as_predicted: bool,
) -> Judged:
    """Scores a split: images against their truth, or those of a generator."""
    if parts.method.sample:
        return judge_samples(parts, variables, split, examples)
    return judge(parts, variables, split, examples, as_predicted=as_predicted)


def report(
    config: ConfigDict, workdir: Path, parts: EvaluationParts, checkpoints: Checkpoints
) -> None:
    """Scores the best checkpoint: a table, `scores.json`, `report.html`, a picture."""
    best = checkpoints.best
    here = parts.prediction.inference.devices
    variables = checkpoints.load_variables(
        best, here.abstract(parts.prediction.variables)
    )
    judged = score(parts, variables, "test", parts.test, as_predicted=True)
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
        "confusion": None if judged.confusion is None else judged.confusion.tolist(),
        "reliability": _reliability(judged),
        "per_image": judged.images,
    }
    text = json.dumps(about, indent=2) + "\n"
    logs.write_file(workdir / folder.SCORES, text.encode())
    logs.write_file(workdir / folder.PICTURE, pictures.encode_png(judged.drawn))
    page = reporting.html(config, workdir, parts, variables, judged, best)
    logs.write_file(workdir / folder.REPORT, page.encode())
    title = f"{config.name}: {images} test images, checkpoint of step {best}"
    logs.print_scores(title, judged.scores, parts.prediction.task.classes)
    logs.say(f"wrote {workdir}/: {folder.SCORES}, {folder.REPORT}, {folder.PICTURE}")


def _reliability(judged: Judged) -> dict[str, list[float | None]] | None:
    """The table of confidence and accuracy; None without classes."""
    if judged.reliability is None:
        return None
    return {
        name: [None if np.isnan(x) else x for x in values.tolist()]
        for name, values in reliability(judged.reliability).items()
    }
