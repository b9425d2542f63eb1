"""The validation of a network during training."""

from unet_jax import logs
from unet_jax.build.dataset import names_absent_classes
from unet_jax.build.training import TrainingParts
from unet_jax.data.folders.folder import DATA_FILE
from unet_jax.inference import NonFinitePredictionError
from unet_jax.methods.method import State
from unet_jax.run.evaluate import score_split
from unet_jax.run.scoring import Evaluation, Scores, warn_of_absent_classes
from unet_jax.run.training_log import TrainingLog


def validate(
    parts: TrainingParts, state: State, step: int, log: TrainingLog, *, first: bool
) -> Evaluation | None:
    """Scores the validation split, and writes the log.

    Args:
      parts: the parts of the run.
      state: the state after the step.
      step: the number of steps taken.
      log: the log of the run.
      first: True to name the classes that the split lacks, unless `build.dataset` has
        named them.

    Returns:
      The evaluation; None if a prediction is not finite, and the run goes on.
    """
    members = [parts.evaluation.method.variables(state)]
    try:
        evaluation = score_split(
            parts.evaluation, members, "val", parts.val, as_predicted=False
        )
    except NonFinitePredictionError as error:
        logs.warn(f"step {step}: {error}, so the scores are undefined")
        return None
    if first and not _is_surveyed(parts):
        warn_of_absent_classes(evaluation.absent, "val")
    log.write_scalars(step, evaluation.scores)
    log.write_picture(step, "val/predictions", evaluation.picture)
    return evaluation


def _is_surveyed(parts: TrainingParts) -> bool:
    """Returns True if absent classes were named when the data set was read."""
    return DATA_FILE in parts.notes and names_absent_classes(
        parts.evaluation.prediction.task
    )


def select_scores(
    evaluation: Evaluation | None, selection_score: str, step: int
) -> Scores:
    """Returns the scores that rank a checkpoint; warns if the first is undefined.

    Args:
      evaluation: of the validation split; None if a prediction is not finite.
      selection_score: the name of the score that selects the best checkpoint.
      step: the number of steps taken.
    """
    scores: Scores = evaluation.scores if evaluation else {selection_score: None}
    if scores.get(selection_score, 0) is None:
        logs.warn(
            f"{selection_score} is undefined at step {step}; this checkpoint is "
            "the best only if no other has a score"
        )
    return scores
