"""Checkpoints of a run: the latest two and the best, saved while training goes on.

A checkpoint holds the state and, as JSON beside it, what else prediction needs: the
configuration and the pre-processing.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from orbax.checkpoint import v1 as ocp

from unet_jax.errors import UserError

FOLDER = "checkpoints"
_policies = ocp.training.preservation_policies


class Checkpoints:
    """The checkpoints of one run folder; a context manager that waits for its saves.

    Args:
      workdir: the run folder.
      best: the score by which a checkpoint is best, the higher the better; checkpoints
        that were saved without scores only count as latest.
    """

    def __init__(self, workdir: Path, best: str) -> None:
        self._best = best
        self._orbax = ocp.training.Checkpointer(
            (workdir / FOLDER).absolute(),  # Orbax refuses a relative path, late
            preservation_policy=_policies.AnyPreservationPolicy(
                [
                    _policies.LatestN(2),
                    _policies.BestN(
                        get_metric_fn=self._score,
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._orbax.close()

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint."""
        return self._orbax.latest.step if self._orbax.latest else None

    @property
    def best(self) -> int | None:
        """The step of the best checkpoint; of the newest where none was scored.

        Raises:
          UserError: the checkpoints were scored, but not by this score.
        """
        scored = [c for c in self._orbax.checkpoints if c.metrics]
        if not scored:
            return self.latest
        known = {name for c in scored for name in c.metrics}
        if self._best not in known:
            raise UserError(
                f"no checkpoint in {self._orbax.directory} was scored by {self._best}; "
                "begin config.metrics with another score"
            )
        return max(scored, key=lambda c: (self._score(c.metrics), c.step)).step

    def save(
        self, step: int, state: Any, about: Any, scores: Mapping[str, float | None]
    ) -> None:
        """Starts to save; returns as soon as the state may be donated.

        Args:
          step: the number of updates behind the state.
          state: a tree of arrays.
          about: JSON data that belongs to the state.
          scores: what the state was measured to be worth, if it was; None is a score
            that does not exist, and the worst.
        """
        if step == self.latest:
            return
        worth = {k: -math.inf if v is None else v for k, v in scores.items()}
        self._orbax.save_checkpointables_async(
            step,
            {"state": state},
            force=True,
            metrics=worth or None,
            custom_metadata=about,
        )

    def wait(self) -> None:
        """Waits for the saves that are under way."""
        self._orbax.wait()

    def restore(self, step: int, like: Any) -> Any:
        """The state of a step, shaped and placed as the abstract state `like`.

        Raises:
          UserError: the checkpoint is damaged.
        """
        try:
            with _one_voice():
                tree = self._orbax.load_checkpointables(step, {"state": like})
        except (ValueError, KeyError, FileNotFoundError) as error:
            raise UserError(
                f"checkpoint {self._orbax.directory / str(step)} is damaged; move it "
                "away to go on from the one before"
            ) from error
        return tree["state"]

    def about(self, step: int) -> Any:
        """The JSON data that was saved with the state of a step."""
        return _about(self._orbax.directory / str(step))

    def _score(self, metrics: Mapping[str, float]) -> float:
        return metrics.get(self._best, -math.inf)


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Silences the tasks of Orbax, each of which would tell of the same damage."""
    level, hook = logging.get_verbosity(), sys.unraisablehook
    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        logging.set_verbosity(level)
        sys.unraisablehook = hook


def steps(workdir: Path) -> list[int]:
    """The steps of a run folder's finished checkpoints, in order."""
    names = [path.name for path in (workdir / FOLDER).glob("*")]
    return sorted(int(name) for name in names if name.isdecimal())


def newest(workdir: Path) -> Any:
    """The JSON data of the newest checkpoint of a run folder.

    Raises:
      UserError: there is none.
    """
    if not steps(workdir):
        raise UserError(f"{workdir} holds no finished checkpoint")
    return _about(workdir / FOLDER / str(steps(workdir)[-1]))


def _about(checkpoint: Path) -> Any:
    # Orbax's own reader would start the devices, too early where processes must join
    text = (checkpoint / "_CHECKPOINT_METADATA").read_text()
    return json.loads(text)["custom_metadata"]
