"""Mode `evaluate`: scores the best checkpoint of a run on the test split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build.evaluation import EvaluationParts, build_evaluation
from unet_jax.checkpoint import Checkpoints, holds_folds
from unet_jax.errors import UserError
from unet_jax.run import provenance, reporting, run_folder
from unet_jax.run.cases import PredictedExample, predict_examples
from unet_jax.run.cross_validation.evaluation import evaluate_folds
from unet_jax.run.ensemble import (
    Member,
    find_leaks,
    list_members,
    load_member,
    open_runs,
    read_preprocessing,
)
from unet_jax.run.evaluation_files import write_results
from unet_jax.run.sample import score_generator
from unet_jax.run.scoring import (
    Evaluation,
    score_images,
    warn_of_absent_classes,
)
from unet_jax.run.trackers import Tracker, open_trackers


def evaluate(config: ConfigDict, workdir: Path, *, ensemble: Sequence[str] = ()) -> int:
    """Scores the best checkpoint of a run, or of several, on the test split.

    Args:
      config: the config of the run; `metrics`, `predict` and others may be changed.
      workdir: the run folder. The results are written to it; nothing is sent to a
        server, whatever `config.logs` names. In that of a cross-validation, each fold
        is scored on its own test images, and the scores are those of all images.
      ensemble: further run folders. The mean of the predictions of all runs is scored,
        on the test split of the first run, and the names of the results get the ending
        `-ensemble`.

    Returns:
      0.

    Raises:
      UserError: a folder has no checkpoint or holds a run with another config, or the
        runs do not fit together.
    """
    session = provenance.start_session()
    if holds_folds(workdir):
        if ensemble:
            raise UserError(
                f"{workdir} holds the runs of a cross-validation, each of which has "
                "trained on the test images of others; leave --ensemble out"
            )
        evaluate_folds(config, workdir, session)
        return 0
    runs = list_members(workdir, ensemble)
    run_folder.create_or_check(workdir, config)
    opened = open_runs(config, runs)
    preprocessing = read_preprocessing(opened)
    if ensemble and preprocessing["samples"]:
        raise UserError(
            f"{workdir} is the run of a generator, whose images have no mean; leave "
            "--ensemble out"
        )
    notes = run_folder.find_notes(workdir, config)
    parts = build_evaluation(config, preprocessing, notes)
    if ensemble:
        like = _abstract_variables(parts)
        pairs = zip(runs, opened, strict=True)
        members = [load_member(run, checkpoints, like) for run, checkpoints in pairs]
        _score_members(config, members, parts, session)
        return 0
    with open_trackers(config, workdir, upload=False) as trackers:
        score_best_checkpoint(config, workdir, parts, opened[0], trackers, session)
    return 0


def score_split(
    parts: EvaluationParts,
    members: Sequence[Any],
    split: str,
    examples: Any,
    *,
    as_predicted: bool,
) -> Evaluation:
    """Scores a split by `score_images`, or by `score_generator` for a generator."""
    if parts.method.sample:
        return score_generator(parts, members[0], split, examples)
    return score_images(parts, members, split, examples, as_predicted=as_predicted)


def score_best_checkpoint(
    config: ConfigDict,
    workdir: Path,
    parts: EvaluationParts,
    checkpoints: Checkpoints,
    trackers: Sequence[Tracker],
    session: provenance.Session,
) -> None:
    """Scores the best checkpoint on the test split and writes the results.

    Process 0 writes `scores.json`, `report.html` and `predictions.png`, passes the
    scores to the trackers and prints a table.
    """
    member = load_member(workdir, checkpoints, _abstract_variables(parts))
    evaluation = _score_members(config, [member], parts, session)
    defined = {name: x for name, x in evaluation.scores.items() if x is not None}
    for tracker in trackers:
        tracker.write_test_scores(member.step, defined)


def _abstract_variables(parts: EvaluationParts) -> Any:
    return parts.prediction.inference.devices.abstract(parts.prediction.variables)


def _score_members(
    config: ConfigDict,
    members: Sequence[Member],
    parts: EvaluationParts,
    session: provenance.Session,
) -> Evaluation:
    """Scores the mean of the members on the test split; process 0 writes the results.

    The results of several members have names of their own.
    """
    place = parts.prediction.inference.place
    placed = [place(member.variables, member.run) for member in members]
    evaluation = score_split(parts, placed, "test", parts.test, as_predicted=True)
    if jax.process_index() != 0:
        return evaluation
    circumstances = _describe_circumstances(config, members, evaluation, session)

    def predict(index: int) -> PredictedExample:
        chosen = parts, placed, parts.test, [index]
        return next(predict_examples(*chosen, as_predicted=True))

    first = members[0].run
    written = write_results(config, first, parts, evaluation, circumstances, predict)
    _print_results(config, members, parts, evaluation)
    logs.say(f"wrote {first}/: {', '.join(written)}")
    return evaluation


def _describe_circumstances(
    config: ConfigDict,
    members: Sequence[Member],
    evaluation: Evaluation,
    session: provenance.Session,
) -> reporting.Circumstances:
    """Collects the circumstances of an evaluation; prints the warnings in them."""
    first, *others = members
    ids = [image["id"] for image in evaluation.per_image]
    leaks = [find_leaks(first.metadata, member, ids) for member in others]
    warnings = tuple(leak for leak in leaks if leak)
    for text in warnings:
        logs.warn(text)
    absent = {"test": list(evaluation.absent)}
    if "absent_classes" in first.metadata:
        absent = {"val": first.metadata["absent_classes"], **absent}
    return reporting.Circumstances(
        step=first.step,
        account=provenance.describe_run(session, config, first.run, first.variables),
        absent=absent,
        ensemble=tuple((str(m.run), m.step) for m in members) if others else (),
        warnings=warnings,
    )


def _print_results(
    config: ConfigDict,
    members: Sequence[Member],
    parts: EvaluationParts,
    evaluation: Evaluation,
) -> None:
    """Prints the warnings about the scores, and a table of them."""
    first, *others = members
    warn_of_absent_classes(evaluation.absent, "test")
    selection_score = run_folder.read_selection_score(first.run, config)
    if first.metadata["scores"].get(selection_score, 0) is None:
        logs.warn(
            f"{selection_score} is undefined in every checkpoint; that of step "
            f"{first.step} is scored"
        )
    source = f"checkpoint of step {first.step}"
    if others:
        source = f"ensemble of {len(members)} runs"
    logs.print_scores(
        f"{config.name}: {len(parts.test)} test images, {source}",
        evaluation.scores,
        parts.prediction.task.classes,
        averaged=evaluation.averaged,
        omit_background=parts.omits_background,
    )
