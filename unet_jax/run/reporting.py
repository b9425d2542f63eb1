"""The contents of the report of a run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build.evaluation import EvaluationParts
from unet_jax.inference import compute_entropy
from unet_jax.metrics.calibration import tabulate_reliability
from unet_jax.report.contents import (
    ComparedRun,
    FoldScores,
    MetricInfo,
    ReliabilityBins,
    Report,
    ScoredExample,
)
from unet_jax.run.cases import PredictedExample, resample_image_back
from unet_jax.run.panels import draw_panels, make_legend
from unet_jax.run.report_provenance import describe_provenance, list_warnings
from unet_jax.run.scoring import (
    Evaluation,
    name_object_errors,
)
from unet_jax.text import format_duration

MAX_SIZE = 1024  # pixels along the longer side of a picture
WORST = 5  # images that are drawn, besides the median and the best


PredictAgain = Callable[[int], PredictedExample]


class Folds(NamedTuple):
    """The folds of a cross-validation, for scores.json and the report.

    Attributes:
      accounts: for each fold the number of the `fold`, its `run`, the `step` of its
        checkpoint, the hash of its `log`, the number of `images` and its `scores`.
      histories: the rows of metrics.jsonl of each fold.
      mean, deviation: the mean of each score over the folds, and the standard
        deviation, with one degree of freedom less than folds.
    """

    accounts: tuple[Mapping[str, Any], ...]
    histories: tuple[Sequence[Mapping[str, Any]], ...]
    mean: Mapping[str, float | None]
    deviation: Mapping[str, float | None]


class Circumstances(NamedTuple):
    """The circumstances of an evaluation, for scores.json and the report.

    Attributes:
      step: of the checkpoint of the run, or of the first member of an ensemble; None
        for the folds of a cross-validation.
      account: as `provenance.describe_run` returns it.
      absent: the classes without a pixel, by split.
      ensemble: the run folder and the step of each member; empty for a single run.
      warnings: about the members of an ensemble.
      folds: the folds of a cross-validation; None for another run.
    """

    step: int | None
    account: Mapping[str, Any]
    absent: Mapping[str, Sequence[str]]
    ensemble: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()
    folds: Folds | None = None


def render_html(
    config: ConfigDict,
    workdir: Path,
    parts: EvaluationParts,
    evaluation: Evaluation,
    circumstances: Circumstances,
    predict: PredictAgain,
) -> str:
    """Renders the report of the test split as an HTML file.

    The learning curves come from the run folder. The arguments are those of
    `evaluation_files.write_results`.
    """
    # late: Jinja2 and matplotlib load only when a page is written
    from unet_jax.report.render import render_report

    report = Report(
        title=workdir.absolute().name if circumstances.folds else config.name,
        facts=[
            *_facts(parts, evaluation, circumstances),
            *_list_absent(circumstances.absent),
            *_list_members(circumstances),
        ],
        step=circumstances.step,
        history=logs.read_scalars(workdir),
        metrics=_metrics(parts, evaluation),
        classes=parts.prediction.task.classes,
        scores=evaluation.scores,
        images=evaluation.per_image,
        objects=_objects(evaluation),
        reliability=_reliability(evaluation),
        confusion=evaluation.confusion,
        examples=_examples(parts, evaluation, predict),
        legend=make_legend(parts),
        provenance=describe_provenance(
            circumstances.account, folds=circumstances.folds is not None
        ),
        folds=_fold_scores(circumstances.folds),
    )
    return render_report(report)


def _fold_scores(folds: Folds | None) -> FoldScores | None:
    if folds is None:
        return None
    pairs = zip(folds.accounts, folds.histories, strict=True)
    return FoldScores(
        runs=[ComparedRun(fold["run"], "", True, rows) for fold, rows in pairs],
        scores=[fold["scores"] for fold in folds.accounts],
        mean=folds.mean,
        deviation=folds.deviation,
    )


def describe_counted_classes(parts: EvaluationParts) -> str:
    """Returns the classes over which the mean of a score is taken, in words."""
    return "foreground classes" if parts.omits_background else "all classes"


def describe_true_objects(parts: EvaluationParts, evaluation: Evaluation) -> str | None:
    """Returns the origin of the true objects in words; None without classes."""
    if not parts.prediction.task.classes:
        return None
    if "instances" in evaluation.keys:
        return "the data set's own"
    return "face-connected components of the true classes"


def _facts(
    parts: EvaluationParts,
    evaluation: Evaluation,
    circumstances: Circumstances,
) -> list[tuple[str, str]]:
    options, account = parts.prediction.options, circumstances.account
    date = str(account["evaluation"]["started"])[:10]
    checkpoint = ("checkpoint", f"step {circumstances.step}")
    if circumstances.folds is not None:
        checkpoint = ("folds", f"{len(circumstances.folds.accounts):,d}")
    facts = [
        checkpoint,
        ("test images", f"{len(evaluation.per_image):,d}"),
        ("date", date),
    ]
    for name, key in (
        ("training time", "training_seconds"),
        ("first step, with compilation", logs.FIRST_STEP),
    ):
        if account[key] is not None:
            facts.append((name, format_duration(account[key])))
    if warnings := list_warnings(account):
        facts.append(("warnings", f"{len(warnings)}, listed under Provenance"))
    if options.tta != "none":
        facts.append(("test-time augmentation", options.tta))
    if options.postprocess:
        names = (spec["name"] for spec in options.postprocess)
        facts.append(("post-processing", ", ".join(names)))
    objects = describe_true_objects(parts, evaluation)
    return [*facts, ("true objects", objects)] if objects else facts


def _list_absent(absent: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    return [
        (f"classes without a pixel in {split}", ", ".join(names))
        for split, names in absent.items()
        if names
    ]


def _list_members(circumstances: Circumstances) -> list[tuple[str, str]]:
    """Returns the runs of an ensemble and its warnings, as pairs for `facts`."""
    if not circumstances.ensemble:
        return []
    runs = ", ".join(run for run, _ in circumstances.ensemble)
    return [("ensemble", runs), *(("warning", w) for w in circumstances.warnings)]


def _metrics(parts: EvaluationParts, evaluation: Evaluation) -> list[MetricInfo]:
    mean = f", mean over {describe_counted_classes(parts)}"
    distance = "spacing's units" if "spacing" in evaluation.keys else "pixels"
    units = {"": "", "distance": distance}
    infos = [
        MetricInfo(
            name,
            metric.reduction + (mean if name in evaluation.averaged else ""),
            metric.lower,
            units[metric.unit],
        )
        for name, metric in parts.metrics
    ]
    return [*infos, MetricInfo("loss", "mean over images", lower=True)]


def _examples(
    parts: EvaluationParts, evaluation: Evaluation, predict: PredictAgain
) -> list[ScoredExample]:
    if parts.method.sample:
        sheet = "sheet", pictures.encode_png(evaluation.picture)
        return [ScoredExample("samples", "real above, generated below", [], [sheet])]
    name, metric = parts.metrics[0]
    chosen = _choose_images(evaluation, name, lower=metric.lower)
    return [_example(parts, evaluation, predict, *each) for each in chosen]


def _choose_images(
    evaluation: Evaluation, first: str, *, lower: bool
) -> list[tuple[str, int]]:
    """Chooses images by the first score, the worst first.

    Returns:
      The reason and the index of each: the worst ones, the median and the best.
    """
    sign = -1 if lower else 1
    scored = [(image[first], i) for i, image in enumerate(evaluation.per_image)]
    ranked = [i for _, i in sorted((sign * x, i) for x, i in scored if x is not None)]
    count = len(ranked)
    places = {i: f"{i + 1} of {count} from the worst" for i in range(min(WORST, count))}
    places |= {count // 2: "median", count - 1: "best", 0: "worst"}
    if count == 1:
        places = {0: "the only one"}
    return [(places[i], ranked[i]) for i in sorted(places) if i in range(count)]


def _example(
    parts: EvaluationParts,
    evaluation: Evaluation,
    predict: PredictAgain,
    reason: str,
    index: int,
) -> ScoredExample:
    """Predicts an image again, and draws it."""
    predicted, task = predict(index), parts.prediction.task
    example, case = predicted.example, predicted.image
    drawn = {
        "image": pictures.draw_image(resample_image_back(parts, example)),
        **draw_panels(parts, case),
    }
    if case.probabilities is not None:
        share = 0.5 if task.overlapping else 1 / case.num_classes
        even = np.full((1, case.num_classes), share)  # of the highest entropy
        uncertainty = compute_entropy(task, case.probabilities)
        top = float(task.entropy(even)[0])
        drawn["uncertainty"] = pictures.draw_heat_map(uncertainty, top=top)
    image = evaluation.per_image[index]
    scores = [(name, image[name]) for name, _ in parts.metrics]
    files = [
        (title, pictures.encode_png(pictures.thin_out(picture, MAX_SIZE)))
        for title, picture in drawn.items()
    ]
    return ScoredExample(reason, image["id"], scores, files)


def _reliability(evaluation: Evaluation) -> ReliabilityBins | None:
    if evaluation.reliability is None:
        return None
    return ReliabilityBins(*tabulate_reliability(evaluation.reliability).values())


def _objects(evaluation: Evaluation) -> dict[str, int] | None:
    counts = evaluation.object_errors
    return None if counts is None else name_object_errors(counts)
