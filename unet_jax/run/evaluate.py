"""Mode `evaluate`: scores the best checkpoint of a run on the test split."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build.training import EvaluationParts, build_evaluation
from unet_jax.checkpoint import FOLDER, Checkpoints
from unet_jax.metrics.calibration import tabulate_reliability
from unet_jax.run import reporting, run_folder
from unet_jax.run.sample import score_generator
from unet_jax.run.scoring import Evaluation, score_images


def evaluate(config: ConfigDict, workdir: Path) -> int:
    """Restores the best checkpoint and writes its scores on the test split.

    `metrics` and `predict` of the config may differ from those of the run. Returns 0.

    Raises:
      UserError: the folder has no checkpoint, or holds a run with another config.
    """
    run_folder.check_trained(workdir)
    run_folder.create_or_check(workdir, config)
    notes = run_folder.find_notes(workdir, config)
    with run_folder.open_checkpoints(workdir, config) as checkpoints:
        preprocessing = checkpoints.load_metadata(checkpoints.best)["preprocessing"]
        parts = build_evaluation(config, preprocessing, notes)
        score_best_checkpoint(config, workdir, parts, checkpoints)
    return 0


def score_split(
    parts: EvaluationParts,
    variables: Any,
    split: str,
    examples: Any,
    *,
    as_predicted: bool,
) -> Evaluation:
    """Scores a split by `score_images`, or by `score_generator` for a generator."""
    if parts.method.sample:
        return score_generator(parts, variables, split, examples)
    return score_images(parts, variables, split, examples, as_predicted=as_predicted)


def score_best_checkpoint(
    config: ConfigDict, workdir: Path, parts: EvaluationParts, checkpoints: Checkpoints
) -> None:
    """Scores the best checkpoint on the test split and writes the results.

    Process 0 writes `scores.json`, `report.html` and `predictions.png`, and prints a
    table.
    """
    best = checkpoints.best
    like = parts.prediction.inference.devices.abstract(parts.prediction.variables)
    variables = checkpoints.load_variables(best, like)
    evaluation = score_split(parts, variables, "test", parts.test, as_predicted=True)
    if jax.process_index() != 0:
        return
    images, confusion = len(parts.test), evaluation.confusion
    content = {
        "step": best,
        "checkpoint": f"{FOLDER}/{best}",
        "images": images,
        **evaluation.scores,
        "predict": run_folder.config_to_json(config)["predict"],
        "true_objects": reporting.describe_true_objects(parts),
        "reductions": {name: metric.reduction for name, metric in parts.metrics},
        "confusion": None if confusion is None else confusion.tolist(),
        "reliability": _reliability_to_json(evaluation),
        "per_image": evaluation.per_image,
    }
    run_folder.write_json(workdir / run_folder.SCORES, content)
    png = pictures.encode_png(evaluation.picture)
    logs.write_file(workdir / run_folder.PICTURE, png)
    page = reporting.render_html(config, workdir, parts, variables, evaluation, best)
    logs.write_file(workdir / run_folder.REPORT, page.encode())
    title = f"{config.name}: {images} test images, checkpoint of step {best}"
    logs.print_scores(title, evaluation.scores, parts.prediction.task.classes)
    written = (run_folder.SCORES, run_folder.REPORT, run_folder.PICTURE)
    logs.say(f"wrote {workdir}/: {', '.join(written)}")


def _reliability_to_json(evaluation: Evaluation) -> dict[str, list] | None:
    """Returns the table of confidence and accuracy; None without classes."""
    if evaluation.reliability is None:
        return None
    return {
        name: [None if np.isnan(x) else x for x in values.tolist()]
        for name, values in tabulate_reliability(evaluation.reliability).items()
    }
