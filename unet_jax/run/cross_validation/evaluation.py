"""Evaluation of a cross-validation: every image by the network that has not seen it."""

import functools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build.evaluation import EvaluationParts, build_evaluation
from unet_jax.checkpoint import find_runs
from unet_jax.errors import UserError
from unet_jax.progress import show_progress
from unet_jax.run import provenance, run_folder
from unet_jax.run.cases import PredictedExample, predict_examples
from unet_jax.run.cross_validation.folds import (
    check_test_images,
    hash_log,
    set_fold,
)
from unet_jax.run.cross_validation.prediction_files import PREDICTIONS, PredictionFiles
from unet_jax.run.ensemble import (
    Member,
    find_leaks,
    get_metadata,
    load_member,
    open_runs,
)
from unet_jax.run.evaluation_files import write_results
from unet_jax.run.reporting import Circumstances, Folds
from unet_jax.run.scoring import (
    Evaluation,
    Scores,
    pool_evaluations,
    score_images,
    warn_of_absent_classes,
)
from unet_jax.text import format_score, tabulate


class ScoredFold(NamedTuple):
    """A fold with its network and its scores.

    Attributes:
      member: the run and its best checkpoint.
      log: the hash of the log of the run.
      parts: the parts that evaluate the run; the test split is that of the fold.
      evaluation: the scores of the fold.
    """

    member: Member
    log: str
    parts: EvaluationParts
    evaluation: Evaluation

    def list_ids(self) -> list[str]:
        """Returns the ids of the test images."""
        return [image["id"] for image in self.evaluation.per_image]


def evaluate_folds(
    config: ConfigDict, workdir: Path, session: provenance.Session
) -> None:
    """Scores each fold on its own test images, and all images as one set.

    Process 0 writes `scores.json`, `report.html` and `predictions.png` in the folder of
    the cross-validation, and prints the scores. `predictions/` gets the prediction of
    every image.

    Args:
      config: the config of the first fold; `metrics`, `predict` and others may be
        changed.
      workdir: the folder of the cross-validation.
      session: the session of this process.

    Raises:
      UserError: a fold has no checkpoint, or has another config; or an image is a test
        image of two folds; or `predictions/` is a link.
    """
    runs = find_runs(workdir)
    run_folder.create_or_check(runs[0], config)
    configs = [set_fold(config, fold) for fold in range(len(runs))]
    for run, of_fold in zip(runs, configs, strict=True):
        run_folder.create_or_check(run, of_fold)
    opened = open_runs(config, runs)
    if get_metadata(opened[0])["preprocessing"]["samples"]:
        raise UserError(
            f"{workdir} holds generators, whose images have no truth; use "
            f"--mode=sample --workdir={runs[0]}"
        )
    scored: list[ScoredFold] = []
    run_folder.check_no_link(workdir / PREDICTIONS, "an evaluation")
    run_folder.create(workdir / PREDICTIONS, "output")
    predictions = PredictionFiles(workdir / PREDICTIONS)
    with show_progress("evaluating folds", len(runs), silent=True) as report:
        for run, of_fold, checkpoints in zip(runs, configs, opened, strict=True):
            preprocessing = get_metadata(checkpoints)["preprocessing"]
            notes = run_folder.find_notes(run, of_fold)
            parts = build_evaluation(of_fold, preprocessing, notes)
            inference = parts.prediction.inference
            like = inference.devices.abstract(parts.prediction.variables)
            log = hash_log(run)  # before it is read: training may go on
            member = load_member(run, checkpoints, like)
            evaluation = score_images(
                parts,
                [inference.place(member.variables, run)],
                "test",
                parts.test,
                as_predicted=True,
                on_case=functools.partial(predictions.write, parts=parts),
            )
            scored.append(ScoredFold(member, log, parts, evaluation))
            report(len(scored))
    check_test_images({fold.member.run.name: fold.list_ids() for fold in scored})
    if jax.process_count() == 1:
        predictions.remove_others()
    if jax.process_index() == 0:
        _write_and_print(config, workdir, scored, session)


def _write_and_print(
    config: ConfigDict,
    workdir: Path,
    scored: Sequence[ScoredFold],
    session: provenance.Session,
) -> None:
    """Pools the folds, writes the results and prints them."""
    parts = scored[0].parts
    pooled = pool_evaluations(parts, "test", [fold.evaluation for fold in scored])
    folds = summarize_folds(scored)
    warnings = list(filter(None, map(_find_leak, scored)))
    for text in warnings:
        logs.warn(text)
    circumstances = Circumstances(
        step=None,
        account=describe_account(session, config, scored),
        absent={"test": list(pooled.absent)},
        warnings=tuple(warnings),
        folds=folds,
    )
    places = [
        (fold, i) for fold in scored for i in range(len(fold.evaluation.per_image))
    ]

    def predict(index: int) -> PredictedExample:
        fold, place = places[index]
        members = [fold.member.variables]
        chosen = fold.parts, members, fold.parts.test, [place]
        return next(predict_examples(*chosen, as_predicted=True))

    files = write_results(config, workdir, parts, pooled, circumstances, predict)
    warn_of_absent_classes(pooled.absent, "test")
    logs.print_scores(
        f"{workdir.absolute().name}: {len(places)} images, each predicted by the fold "
        "that has not trained on it",
        pooled.scores,
        parts.prediction.task.classes,
        averaged=pooled.averaged,
        omit_background=parts.omits_background,
    )
    for line in _tabulate_folds(folds):
        logs.say(line)
    logs.say(f"wrote {workdir}/: {', '.join(files)}, {PREDICTIONS}/")


def _find_leak(fold: ScoredFold) -> str | None:
    """Returns a warning if a fold has trained on its own test images."""
    return find_leaks(fold.member.metadata, fold.member, fold.list_ids())


def summarize_folds(scored: Sequence[ScoredFold]) -> Folds:
    """Returns the scores of the folds, with their means and standard deviations.

    A fold where a score is undefined does not count; the deviation of one fold is
    undefined.
    """
    accounts = tuple(
        {
            "fold": number,
            "run": fold.member.run.name,
            "step": fold.member.step,
            "log": fold.log,
            "images": len(fold.evaluation.per_image),
            "scores": dict(fold.evaluation.scores),
        }
        for number, fold in enumerate(scored)
    )
    mean: Scores = {}
    deviation: Scores = {}
    for name in scored[0].evaluation.scores:
        values = [fold.evaluation.scores.get(name) for fold in scored]
        defined = [value for value in values if value is not None]
        mean[name] = statistics.mean(defined) if defined else None
        deviation[name] = statistics.stdev(defined) if len(defined) > 1 else None
    histories = tuple(logs.read_scalars(fold.member.run) for fold in scored)
    return Folds(accounts, histories, mean, deviation)


def describe_account(
    session: provenance.Session, config: ConfigDict, scored: Sequence[ScoredFold]
) -> Mapping[str, Any]:
    """Returns the account of the first fold with the training sessions of all.

    Args:
      session: the session of the evaluation.
      config: the config of the first fold.
      scored: the folds.
    """
    accounts = [
        provenance.describe_run(session, config, fold.member.run, fold.member.variables)
        for fold in scored
    ]
    times = [account["training_seconds"] for account in accounts]
    return {
        **accounts[0],
        "evaluation": _omit_fold(accounts[0]["evaluation"]),
        "training_seconds": None if None in times else sum(times),
        logs.FIRST_STEP: None,
        "training": [_omit_fold(each) for one in accounts for each in one["training"]],
    }


def _omit_fold(session: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the account of a session without its fold, which each fold changes."""
    changes = session["changed_fields"]
    kept = changes and [change for change in changes if change[0] != "data.fold"]
    return {**session, "changed_fields": kept}


def _tabulate_folds(folds: Folds) -> list[str]:
    """Returns the lines of a table: the mean, the deviation and the folds across."""
    names = [name for name in folds.mean if name.count("/") == 1]
    scores = [each["scores"] for each in folds.accounts]
    columns = [folds.mean, folds.deviation, *scores]
    titles = ["mean", "deviation", *(each["run"] for each in folds.accounts)]
    rows = [["over the folds", *titles]]
    for name in names:
        cells = [format_score(column.get(name)) for column in columns]
        rows.append([name.partition("/")[2], *cells])
    return list(tabulate(rows, logs.find_line_width()))
