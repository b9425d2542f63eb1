"""The files of an evaluation: scores.json, report.html and predictions.png."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build.evaluation import EvaluationParts
from unet_jax.checkpoint import CHECKPOINTS
from unet_jax.metrics.calibration import tabulate_reliability
from unet_jax.progress import show_progress
from unet_jax.run import reporting, run_config, run_folder
from unet_jax.run.scoring import Evaluation, name_object_errors


def make_content(
    config: ConfigDict,
    parts: EvaluationParts,
    evaluation: Evaluation,
    circumstances: reporting.Circumstances,
) -> dict[str, Any]:
    """Returns the content of scores.json."""
    counts, confusion = evaluation.object_errors, evaluation.confusion
    step = circumstances.step
    content = {
        "step": step,
        "checkpoint": None if step is None else f"{CHECKPOINTS}/{step}",
        "images": len(evaluation.per_image),
        **evaluation.scores,
        "predict": run_config.config_to_json(config)["predict"],
        "true_objects": reporting.describe_true_objects(parts, evaluation),
        "absent_classes": circumstances.absent,
        "mean_over": reporting.describe_counted_classes(parts),
        "reductions": {name: metric.reduction for name, metric in parts.metrics},
        "objects": None if counts is None else name_object_errors(counts),
        "confusion": None if confusion is None else confusion.tolist(),
        "reliability": _reliability_to_json(evaluation),
        "per_image": evaluation.per_image,
        "provenance": circumstances.account,
    }
    if members := circumstances.ensemble:
        content["ensemble"] = [{"run": run, "step": step} for run, step in members]
        content["warnings"] = list(circumstances.warnings)
    if folds := circumstances.folds:
        content["folds"] = [dict(each) for each in folds.accounts]
        content["mean"], content["deviation"] = dict(folds.mean), dict(folds.deviation)
    return content


def write_results(
    config: ConfigDict,
    workdir: Path,
    parts: EvaluationParts,
    evaluation: Evaluation,
    circumstances: reporting.Circumstances,
    predict: reporting.PredictAgain,
) -> tuple[str, ...]:
    """Writes the scores, the picture and, last, the report.

    An earlier report is removed first: it is of other scores.

    Args:
      config: the config of the evaluation.
      workdir: the folder to write to.
      parts: the parts that evaluate; those of the first fold of a cross-validation.
      evaluation: the scores.
      circumstances: of the evaluation.
      predict: predicts an image of the evaluation again, for the report.

    Returns:
      The names of the files.
    """
    files = run_folder.SCORES, run_folder.REPORT, run_folder.PICTURE
    if circumstances.ensemble:
        files = tuple(map(run_folder.name_ensemble_file, files))
    scores, report, picture = (workdir / name for name in files)
    content = make_content(config, parts, evaluation, circumstances)
    report.unlink(missing_ok=True)
    run_folder.write_json(scores, content)
    logs.write_file(picture, pictures.encode_png(evaluation.picture))
    with show_progress("writing the report"):
        page = reporting.render_html(
            config, workdir, parts, evaluation, circumstances, predict
        )
    logs.write_file(report, page.encode())
    return files


def _reliability_to_json(evaluation: Evaluation) -> dict[str, list] | None:
    """Returns the table of confidence and accuracy; None without classes."""
    if evaluation.reliability is None:
        return None
    return {
        name: [None if np.isnan(x) else x for x in values.tolist()]
        for name, values in tabulate_reliability(evaluation.reliability).items()
    }
