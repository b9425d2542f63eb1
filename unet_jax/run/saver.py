"""The checkpoints of a run that trains: their metadata, and resuming from them."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax.build.training import TrainingParts
from unet_jax.checkpoint import Checkpoints
from unet_jax.methods.method import State
from unet_jax.run import provenance, run_config, run_folder
from unet_jax.run.scoring import Evaluation
from unet_jax.run.step_scalars import StepScalars
from unet_jax.run.validation import select_scores


class Saver:
    """Saves the states of a run with all that resuming and prediction need.

    Args:
      config: the config of the run.
      workdir: the run folder.
      parts: the parts of the run.
      checkpoints: its checkpoints.
      selection_score: the name of the score that selects the best checkpoint.
      session: the process that trains.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        parts: TrainingParts,
        checkpoints: Checkpoints,
        selection_score: str,
        session: provenance.Session,
    ) -> None:
        self._config, self._workdir, self._parts = config, workdir, parts
        self.checkpoints = checkpoints
        self._selection_score = selection_score
        self._session = session
        self._start = 0  # the step from which this process trains
        self._earlier: list[dict[str, Any]] = []  # the sessions before this one

    def restore(self, shapes: State) -> tuple[State, int, StepScalars] | None:
        """Restores the newest sound checkpoint; None if there is no checkpoint.

        Args:
          shapes: the shapes of the state.

        Returns:
          The state, its step, and the scalars that are not in the log yet.

        Raises:
          UserError: all checkpoints are damaged.
        """
        like = self._parts.layout.abstract(shapes)
        select_variables = self._parts.evaluation.method.variables
        restored = self.checkpoints.restore(like, select_variables)
        if restored is None:
            return None
        self._start, state = restored
        about = self.checkpoints.load_metadata(self._start)
        self._earlier = provenance.read_sessions(about)
        return state, self._start, StepScalars(about)

    def save(
        self,
        state: State,
        step: int,
        waiting: StepScalars,
        evaluation: Evaluation | None,
        *,
        validated: bool,
    ) -> None:
        """Starts to save a state.

        Args:
          state: the state after the step.
          step: the number of steps taken.
          waiting: the scalars that are not in the log yet.
          evaluation: of the validation split; None if a prediction is not finite, or
            if it was not validated.
          validated: True if it was validated.

        Raises:
          UserError: the run folder was removed, or a checkpoint cannot be written.
        """
        run_folder.check_not_removed(self._workdir)
        parts, name = self._parts, self._selection_score
        session = provenance.describe_training(
            self._session, self._config, parts, self._start, step
        )
        about = {
            "config": run_config.config_to_json(self._config),
            "preprocessing": parts.evaluation.prediction.preprocessing,
            **waiting.to_json(),
            "chosen_by": name,
            provenance.SESSIONS: [*self._earlier, session],
        }
        if evaluation:
            about["absent_classes"] = list(evaluation.absent)
        scores = select_scores(evaluation, name, step) if validated else {}
        variables = parts.evaluation.method.variables
        self.checkpoints.save(
            step, parts.layout.make_global(state), variables, about, scores
        )
