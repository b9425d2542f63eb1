"""The checkpoints of one run: the latest two and the best."""

import contextlib
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from unet_jax import logs
from unet_jax.checkpoint.checkpoint_files import (
    SCORES,
    TRAINING,
    VARIABLES,
    load_metadata,
    load_parts,
    start_saving,
)
from unet_jax.checkpoint.damage import DamagedCheckpointError, silence_orbax
from unet_jax.checkpoint.folds import find_runs, holds_folds, holds_sweep
from unet_jax.checkpoint.state_parts import split_state
from unet_jax.errors import UserError

CHECKPOINTS, DAMAGED = "checkpoints", "damaged"
STEP = "0|[1-9][0-9]{0,17}"  # the name of a checkpoint
LATEST = 2  # checkpoints that are kept besides the best
REMOVED = ".removed-"  # starts the name of a checkpoint that is being removed


class Checkpoints:
    """The checkpoints of one run folder; a context manager that waits for all saves.

    Args:
      workdir: the run folder.
      selection_score: the name of the score that selects the best checkpoint, such as
        'val/dice'. The highest score is the best, and the lowest loss. A checkpoint
        without scores is the best only if no checkpoint has scores.
      warn: is called with a warning for each damaged checkpoint.
    """

    def __init__(
        self,
        workdir: Path,
        selection_score: str,
        warn: Callable[[str], object] = logs.warn,
    ) -> None:
        silence_orbax()
        self._workdir = workdir
        # Orbax needs an absolute path
        self._folder = (workdir / CHECKPOINTS).absolute()
        self._selection_score = selection_score
        self._warn = warn
        self._saving: tuple[int, dict[str, Any], Callable[[], None]] | None = None
        self._metadata: dict[int, dict[str, Any]] = {}
        damage = []
        for step in list_steps(workdir):
            try:
                self._metadata[step] = load_metadata(self._folder / str(step))
            except DamagedCheckpointError as error:
                damage.append(error)
        if damage and not self._metadata:
            raise _report_none_sound(damage[-1])
        for error in damage:
            warn(f"{error}; it is not used")

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint; None if there is none."""
        return max(self._metadata, default=None)

    @property
    def best(self) -> int:
        """The step of the best checkpoint; of the newest if none has scores.

        Raises:
          UserError: there is no checkpoint, or the saved scores lack the one that
            selects the best.
        """
        return self._order_by_score()[0]

    def save(
        self,
        step: int,
        state: Any,
        select_variables: Callable[[Any], Any],
        metadata: Mapping[str, Any],
        scores: Mapping[str, float | None],
    ) -> None:
        """Starts to save a state; returns as soon as the state may be donated.

        Args:
          step: the number of updates that led to the state.
          state: a tree of arrays.
          select_variables: state -> those of its arrays that prediction needs.
          metadata: JSON data to save with the state: `config`, `preprocessing`, and
            others.
          scores: the validation scores of the state; empty if it was not evaluated.
            None is an undefined score and ranks below all others.

        Raises:
          UserError: this save or the one before it cannot be written.
        """
        self.wait()
        if step == self.latest:
            return
        parts = split_state(state, select_variables)
        trees = {VARIABLES: parts.variables, TRAINING: parts.training}
        about = {**metadata, SCORES: dict(scores)}
        self._saving = step, *start_saving(self._folder / str(step), trees, about)

    def wait(self) -> None:
        """Waits until the started save is complete, and removes what is not kept.

        Raises:
          UserError: the checkpoint cannot be written.
        """
        if self._saving is None:
            return
        (step, about, wait), self._saving = self._saving, None
        wait()
        self._metadata[step] = about
        kept = {*sorted(self._metadata)[-LATEST:], self.best}
        for old in self._metadata.keys() - kept:
            del self._metadata[old]
            if jax.process_index() == 0:
                _remove(self._folder / str(old))

    def restore(
        self, like: Any, select_variables: Callable[[Any], Any]
    ) -> tuple[int, Any] | None:
        """Restores the newest checkpoint that is not damaged.

        Damaged ones that are newer are moved to the folder `damaged`.

        Args:
          like: the abstract state, with shapes and shardings.
          select_variables: as in `save`.

        Returns:
          The step and the state; None if there is no checkpoint.

        Raises:
          UserError: all checkpoints are damaged.
        """
        parts = split_state(like, select_variables)
        abstract = {VARIABLES: parts.variables, TRAINING: parts.training}
        newest_first = sorted(self._metadata, reverse=True)
        if not newest_first:
            return None
        step, trees = self._load_first(newest_first, abstract)
        for damaged in list_steps(self._workdir):
            if damaged > step:
                self._metadata.pop(damaged, None)
                _set_aside(self._workdir, damaged)
        return step, parts.join(trees[VARIABLES], trees[TRAINING])

    def load_best(self, like: Any) -> tuple[int, Any]:
        """Loads the variables of the best checkpoint that is not damaged.

        Args:
          like: the abstract variables, with shapes and shardings; or a function that
            adds shardings to the tree of shapes and dtypes that the checkpoint states.

        Returns:
          The step and the variables.

        Raises:
          UserError: all checkpoints are damaged.
        """
        step, trees = self._load_first(self._order_by_score(), {VARIABLES: like})
        return step, trees[VARIABLES]

    def load_metadata(self, step: int) -> dict[str, Any]:
        """Returns the JSON data that was saved with the state of a step."""
        return self._metadata[step]

    def _load_first(
        self, steps: list[int], abstract: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        """Loads the first of some checkpoints that is not damaged."""
        for i, step in enumerate(steps):
            checkpoint = self._folder / str(step)
            try:
                return step, load_parts(checkpoint, abstract, self._metadata[step])
            except DamagedCheckpointError as error:
                if i + 1 == len(steps):
                    raise _report_none_sound(error) from error
                self._warn(f"{error}; using that of step {steps[i + 1]}")
        raise AssertionError("there are no steps")

    def _order_by_score(self) -> list[int]:
        """Returns the steps of the checkpoints, the best first."""
        if not self._metadata:
            raise UserError(f"{self._folder} holds no checkpoint; train first")
        scores = {s: m[SCORES] for s, m in self._metadata.items() if m[SCORES]}
        name = self._selection_score
        if scores and not any(name in each for each in scores.values()):
            raise UserError(
                f"no checkpoint in {self._folder} has the score {name}; put another "
                "metric first in config.metrics"
            )
        sign = -1 if name.rpartition("/")[2] == "loss" else 1

        def rank(step: int) -> tuple[bool, float, int]:
            score = scores.get(step, {}).get(name)
            if score is None or not math.isfinite(score):
                return step in scores, -math.inf, step
            return step in scores, sign * score, step

        return sorted(self._metadata, key=rank, reverse=True)


def list_steps(workdir: Path) -> list[int]:
    """Returns the steps of the complete checkpoints of a run folder, in order."""
    names = [path.name for path in (workdir / CHECKPOINTS).glob("*")]
    return sorted(int(name) for name in names if re.fullmatch(STEP, name))


def clean(workdir: Path) -> None:
    """Removes what interrupted saves and removals have left in a run folder."""
    for path in (workdir / CHECKPOINTS).glob("*"):
        if ".orbax-checkpoint-tmp" in path.name or path.name.startswith(REMOVED):
            shutil.rmtree(path, ignore_errors=True)


def check_trained(workdir: Path) -> None:
    """Raises UserError unless the folder holds a finished checkpoint."""
    if holds_folds(workdir):
        raise UserError(
            f"{workdir} holds the runs of a cross-validation; name one of them, such "
            f"as {find_runs(workdir)[0]}"
        )
    if not list_steps(workdir):
        if holds_sweep(workdir):
            runs = sorted(path.parent for path in workdir.glob(f"*/{CHECKPOINTS}"))
            example = f", such as {runs[0]}" if runs else ""
            raise UserError(
                f"{workdir} holds the runs of a sweep; name one of them{example}"
            )
        lacks = "holds no finished checkpoint" if workdir.is_dir() else "does not exist"
        if holds_folds(workdir.parent) and workdir in find_runs(workdir.parent):
            raise UserError(
                f"{workdir} {lacks}; start the --mode=crossval command of "
                f"{workdir.parent} again"
            )
        raise UserError(f"{workdir} {lacks}; train first, or name another --workdir")


def load_newest_metadata(workdir: Path) -> dict[str, Any]:
    """Returns the JSON data of the newest checkpoint whose metadata are not damaged.

    Raises:
      UserError: there is no checkpoint, or the metadata of all are damaged or were not
        written by this package.
    """
    steps = list_steps(workdir)
    if not steps:
        lacks = "holds no finished checkpoint" if workdir.is_dir() else "does not exist"
        raise UserError(f"{workdir} {lacks}; name the folder of a trained run")
    for step in reversed(steps):
        try:
            return load_metadata(workdir / CHECKPOINTS / str(step))
        except DamagedCheckpointError as error:
            if step == steps[0]:
                raise _report_none_sound(error) from error
    raise AssertionError("steps is not empty")


def _report_none_sound(error: DamagedCheckpointError) -> UserError:
    return UserError(
        f"{error}; the folder has no other checkpoint of this program, so train again "
        "in another --workdir"
    )


def _set_aside(workdir: Path, step: int) -> None:
    """Moves a damaged checkpoint out of the way of a new one of the same step."""
    if jax.process_index() == 0:
        target = workdir / DAMAGED / str(step)
        while target.exists():
            target = target.with_name(f"{target.name}_")
        target.parent.mkdir(exist_ok=True)
        (workdir / CHECKPOINTS / str(step)).rename(target)


def _remove(checkpoint: Path) -> None:
    """Removes a checkpoint; at no time is a part of it taken for a whole one."""
    removed = checkpoint.with_name(f"{REMOVED}{checkpoint.name}")
    with contextlib.suppress(FileNotFoundError):  # the user has removed it
        checkpoint.rename(removed)
        shutil.rmtree(removed)
