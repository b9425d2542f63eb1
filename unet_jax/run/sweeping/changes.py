"""The changes that a start of a sweep makes to the runs of earlier starts.

A complete run stays, unless the user deletes its folder. One that never completed may
be replaced or removed: its point gets other fields, or leaves the sweep.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.errors import UserError
from unet_jax.run import run_folder
from unet_jax.run.sweeping.files import REPLACED
from unet_jax.run.sweeping.identity import compare
from unet_jax.run.sweeping.plan import Plan, PlannedRun
from unet_jax.run.sweeping.presence import Presence
from unet_jax.run.sweeping.results import STATES
from unet_jax.run.sweeping.scores import has_scores


class Changes(NamedTuple):
    """The changes to the runs of a study.

    Attributes:
      added: the runs of the plan that the study does not have, or has with other
        fields.
      repeated: the trials of runs that failed, or whose scores were deleted.
      withdrawn: the trials of runs that never completed, and that the plan does not
        have, or has with other fields.
    """

    added: tuple[PlannedRun, ...]
    repeated: tuple[Any, ...]
    withdrawn: tuple[Any, ...]

    def list_names(self) -> list[str]:
        """Returns the names of the runs that are added, changed or withdrawn."""
        names = [run.name for run in self.added]
        names += [trial.user_attrs["name"] for trial in self.withdrawn]
        return list(dict.fromkeys(names))


def find_changes(
    newest: Mapping[str, Any], plan: Plan, workdir: Path, presence: Presence
) -> Changes:
    """Compares the runs of a study with those of a plan.

    Args:
      newest: the newest trial of each run, by the name of the run folder.
      plan: the sweep.
      workdir: the folder of the sweep.
      presence: the presence of this worker.

    Raises:
      UserError: a run that is complete, or in training, is not in the plan, or has
        other fields there.
    """
    runs = {run.name: run for run in plan.runs}
    withdrawn, repeated = {}, []
    for name, trial in newest.items():
        run, folder = runs.get(name), workdir / name
        if plan.space or (run and trial.user_attrs["fields"] == dict(run.fields)):
            if _must_repeat(trial, folder, presence):
                repeated.append(trial)
        elif run or STATES[trial.state.name] != "failed" or not has_scores(folder):
            # else the folder holds a run that was trained later, without the sweep
            withdrawn[name] = trial
    added = [
        run for run in plan.runs if run.name not in newest or run.name in withdrawn
    ]
    _check_replaceable(withdrawn, runs, workdir, presence)
    return Changes(tuple(added), tuple(repeated), tuple(withdrawn.values()))


def _must_repeat(trial: Any, folder: Path, presence: Presence) -> bool:
    """Returns True if a run failed, or if the scores of a complete one were deleted.

    What a living worker has recorded stays: it is of the same start.
    """
    state = STATES[trial.state.name]
    repeats = state == "failed" or (state == "complete" and not has_scores(folder))
    return repeats and not _has_living_worker(trial, presence)


def _check_replaceable(
    withdrawn: Mapping[str, Any],
    runs: Mapping[str, PlannedRun],
    workdir: Path,
    presence: Presence,
) -> None:
    """Raises UserError if runs that are not in the plan as they are must stay."""
    complete, training = [], []
    for name, trial in withdrawn.items():
        state, folder = STATES[trial.state.name], workdir / name
        if state == "complete" and has_scores(folder):
            complete.append(name)
        elif state == "running" and _has_living_worker(trial, presence):
            training.append(name)
        else:
            run_folder.check_unlocked(folder)  # by a process of a killed worker
    kept = [name for name in withdrawn if name in {*complete, *training}]
    if not kept:
        return
    if changed := next((name for name in kept if name in runs), None):
        point = runs[changed].point
        kept = [name for name in kept if name in runs and runs[name].point == point]
        fields = runs[changed].fields
        difference = compare(withdrawn[changed].user_attrs["fields"], fields)
        what = f"another point {point!r}: {difference}"
        keep = "keep it, and give the new fields to a point with another name"
    else:
        what = f"runs that are not in the sweep any more: {', '.join(map(repr, kept))}"
        keep = "put them back"
    removal = []
    if busy := [name for name in kept if name in training]:
        removal.append(f"stop the training of {', '.join(busy)}")
    if done := [str(workdir / name) for name in kept if name in complete]:
        removal.append(f"delete the complete {' '.join(done)}")
    raise UserError(
        f"{workdir} holds {what}; {keep}, or {' and '.join(removal)}, or choose "
        "another --workdir"
    )


def _has_living_worker(trial: Any, presence: Presence) -> bool:
    worker = trial.user_attrs.get("worker")
    return worker is not None and presence.is_alive(worker)


def set_aside(folder: Path) -> Path | None:
    """Moves the folder of a run that never completed to `replaced/`.

    Returns:
      The new folder; None if there was none.
    """
    if not folder.exists():
        return None
    names = (f"{folder.name}{f'-{n}' if n else ''}" for n in itertools.count())
    paths = (folder.parent / REPLACED / name for name in names)
    target = next(path for path in paths if not path.exists())
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    return target
