"""The study of a sweep: an Optuna journal in its folder, which shares out the runs.

Each run is one trial of the study. The journal is a file to which every worker appends,
on a machine of its own or not. A lock of the sweep makes the choice of the next run one
step, so no run is given to two workers.
"""

import contextlib
import importlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.build.overrides import to_text
from unet_jax.checkpoint import JOURNAL
from unet_jax.errors import UserError
from unet_jax.json_file import convert
from unet_jax.logs import say
from unet_jax.run.sweeping.changes import Changes, find_changes, set_aside
from unet_jax.run.sweeping.files import LOCK
from unet_jax.run.sweeping.identity import check_same
from unet_jax.run.sweeping.journal import REMEDY, Lock, check_trials, open_journal
from unet_jax.run.sweeping.plan import Plan
from unet_jax.run.sweeping.presence import Presence
from unet_jax.run.sweeping.results import STATES, State, TrialResult
from unet_jax.run.sweeping.scores import has_scores, read_scores
from unet_jax.text import listing

NAME = "sweep"  # of the study
REPEATED = ("name", "point", "seed", "fields")  # attributes of a run, not of its end
SEARCHED = "trial-"  # begins the names of the runs of a search


class Claim(NamedTuple):
    """A run that this worker has taken.

    Attributes:
      trial: the trial of the study.
      name: the name of its run folder.
      fields: the fields of its point, or those that the search chose, as texts.
      reported: the steps whose validation scores the study knows.
    """

    trial: Any
    name: str
    fields: Mapping[str, str]
    reported: set[int]


def import_optuna(kind: str = "sweep") -> Any:
    """Imports Optuna; raises UserError if it is not installed."""
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise UserError(
            f"a {kind} needs the package optuna, which is not installed; run pip "
            "install 'unet_jax[sweep]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna


class Study:
    """The study of a sweep, as one worker sees it.

    Args:
      plan: the sweep.
      workdir: the folder of the sweep, which exists.
      presence: the presence of this worker.

    Raises:
      UserError: Optuna is not installed, or the journal cannot be read or is that of
        another sweep.
    """

    def __init__(self, plan: Plan, workdir: Path, presence: Presence) -> None:
        self._optuna = optuna = import_optuna()
        self._plan, self._workdir, self._presence = plan, workdir, presence
        self._new_scores: dict[int, dict[str, float | None]] = {}  # by trial
        path = workdir.resolve() / JOURNAL
        self._lock = Lock(optuna, path.with_name(LOCK))
        self._runs = {run.name: run for run in plan.runs}
        self._storage = open_journal(optuna, path)
        with self.lock():
            self._study = self._open()
            self._update_runs()
            presence.remove_dead()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps the other workers from changing the study and the results."""
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def claim(self) -> Claim | None:
        """Takes the next run; returns None if there is none to take now."""
        with self.lock():
            self._free_abandoned_runs()
            trials = self._trials()
            waiting = any(STATES[trial.state.name] == "waiting" for trial in trials)
            names = {trial.user_attrs.get("name") for trial in trials}
            searching = self._plan.space and len(names) < self._plan.trials
            if not waiting and not searching:
                return None
            trial = self._study.ask()
            if self._plan.space:
                name, fields = self._choose_values(trial)
            elif self._is_planned(trial):
                name = trial.user_attrs["name"]
                fields = self._runs[name].fields  # not those of the journal
            else:
                self._set_state(trial.number, "FAIL")
                return None
            trial.set_user_attr("worker", self._presence.name)
            reported = set(self._get(trial.number).intermediate_values)
            return Claim(trial, name, fields, reported)

    def _free_abandoned_runs(self) -> None:
        """Lets the runs of dead workers wait for another one."""
        for trial in self._trials():
            if STATES[trial.state.name] == "running":
                worker = trial.user_attrs.get("worker")
                if worker is None or not self._presence.is_alive(worker):
                    self._set_state(trial.number, "WAITING")

    def _choose_values(self, trial: Any) -> tuple[str, dict[str, str]]:
        """Returns the name and the fields of a run of a search, and records them."""
        fields = {
            field: to_text(distribution.suggest(trial, field))
            for field, distribution in self._plan.space.items()
        }
        name = trial.user_attrs.get("name", f"{SEARCHED}{trial.number}")
        trial.set_user_attr("fields", fields)
        trial.set_user_attr("name", name)
        return name, fields

    def _is_planned(self, trial: Any) -> bool:
        """Returns True if a trial is the newest of a run of the plan."""
        name = trial.user_attrs.get("name")
        return name in self._runs and self._find_newest()[name].number == trial.number

    def owns(self, claim: Claim) -> bool:
        """Returns True unless another worker has taken the run over."""
        trial = self._get(claim.trial.number)
        mine = trial.user_attrs.get("worker") == self._presence.name
        return mine and STATES[trial.state.name] == "running"

    def report(self, claim: Claim, scores: Sequence[tuple[int, float]]) -> None:
        """Records the steps of a run and their validation scores, each step once."""
        for step, score in scores:
            if step not in claim.reported:
                claim.reported.add(step)
                claim.trial.report(score, step)

    def should_prune(self, claim: Claim) -> bool:
        """Returns True if a run is worse than the median of the others at its step."""
        return claim.trial.should_prune()

    def release(self, claim: Claim) -> None:
        """Gives a run back that was stopped; it continues later."""
        with self.lock():
            if self.owns(claim):
                self._set_state(claim.trial.number, "WAITING")

    def finish(
        self,
        claim: Claim,
        state: State,
        scores: Mapping[str, float | None],
        minutes: float | None,
        *,
        skipped: int = 0,
        reason: str = "",
    ) -> bool:
        """Records the end of a run; the arguments are those of `TrialResult`.

        Returns:
          False if another worker has taken the run over, and nothing was recorded.
        """
        states = {word: name for name, word in STATES.items()}
        with self.lock():
            if not self.owns(claim):
                return False
            noted: dict[str, Any] = {"scores": dict(scores), "minutes": minutes}
            noted |= {"skipped": skipped, "reason": reason}
            for key, value in noted.items():
                claim.trial.set_user_attr(key, value)
            value = None
            if state == "complete":
                value = scores[self._plan.scores[0]]
                if value is None:  # undefined, and Optuna needs a number
                    value = math.inf if self._plan.lower[0] else -math.inf
            ended = self._optuna.trial.TrialState[states[state]]
            self._study.tell(claim.trial, value, ended)
        return True

    def list_results(self) -> tuple[TrialResult, ...]:
        """Returns the runs of the sweep, in the order of the plan."""
        newest = self._find_newest()
        names = [run.name for run in self._plan.runs] or list(newest)
        return tuple(self._describe(newest[name]) for name in names)

    def _describe(self, trial: Any) -> TrialResult:
        known = trial.user_attrs
        name = known["name"]
        return TrialResult(
            name=name,
            folder=self._workdir / name,
            point=known.get("point", name),
            seed=known.get("seed"),
            fields=known["fields"],
            state=STATES[trial.state.name],
            scores=self._read_new_scores(trial) | known.get("scores", {}),
            minutes=known.get("minutes"),
            skipped=known.get("skipped", 0),
            reason=known.get("reason", ""),
        )

    def _read_new_scores(self, trial: Any) -> dict[str, float | None]:
        """Returns the scores of a complete run that the sweep did not name before."""
        known, number = trial.user_attrs, trial.number
        names = [n for n in self._plan.scores if n not in known.get("scores", {})]
        folder = self._workdir / known["name"]
        complete = STATES[trial.state.name] == "complete"
        if not names or not complete or not has_scores(folder):
            return {}
        if number not in self._new_scores:
            self._new_scores[number] = read_scores(folder, names)
        return self._new_scores[number]

    def _open(self) -> Any:
        """Opens the study of the journal, or creates it."""
        optuna, plan, journal = self._optuna, self._plan, self._workdir / JOURNAL
        options = {
            "storage": self._storage,
            "study_name": NAME,
            # constant_liar treats running trials as bad, so that workers do not
            # propose nearly equal values
            "sampler": optuna.samplers.TPESampler(constant_liar=True),
            "pruner": optuna.pruners.MedianPruner(),
        }
        if not self._storage.get_all_studies():
            direction = "minimize" if plan.lower[0] else "maximize"
            study = optuna.create_study(direction=direction, **options)
            study.set_user_attr("identity", dict(plan.identity))
            return study
        try:
            study = optuna.load_study(**options)
            identity = study.user_attrs["identity"]
        except KeyError as error:
            raise UserError(
                f"{journal} is not that of a {plan.kind}; choose another --workdir"
            ) from error
        identity = convert(identity, dict[str, str], str(journal), REMEDY)
        check_same(identity, plan.identity, journal, plan.kind)
        convert(study.user_attrs.get("plans", {}), dict[str, str], str(journal), REMEDY)
        check_trials(study.get_trials(deepcopy=False), journal)
        return study

    def _update_runs(self) -> None:
        """Makes the runs of the study those of the plan, and repeats failed ones."""
        changes = find_changes(
            self._find_newest(), self._plan, self._workdir, self._presence
        )
        self._join(changes)
        for trial in changes.withdrawn:
            if not trial.state.is_finished():
                reason = "it was changed in the sweep file, or left out"
                self._storage.set_trial_user_attr(
                    self._id(trial.number), "reason", reason
                )
                self._set_state(trial.number, "FAIL")
            name = trial.user_attrs["name"]
            if moved := set_aside(self._workdir / name):
                say(f"{name}: moved the run that never completed to {moved}")
        for run in changes.added:
            self._study.enqueue_trial({}, user_attrs=run._asdict())
        for trial in changes.repeated:
            known = {k: v for k, v in trial.user_attrs.items() if k in REPEATED}
            self._study.enqueue_trial(trial.params, user_attrs=known)
            if STATES[trial.state.name] == "complete":
                name = known["name"]
                say(f"{name}: {self._workdir / name} has no scores; training it again")

    def _join(self, changes: Changes) -> None:
        """Notes that this worker follows its plan.

        Raises:
          UserError: another worker is alive, and follows another plan.
        """
        known, mine = self._study.user_attrs.get("plans", {}), self._plan.digest
        others = {w: plan for w, plan in known.items() if self._presence.is_alive(w)}
        if other := next((w for w, plan in others.items() if plan != mine), None):
            names = changes.list_names()
            runs = f"runs ({listing(names)})" if names else "scores or trials"
            raise UserError(
                f"{self._workdir}: the worker {other} is alive, and its sweep file has "
                f"other {runs}; stop it, or wait for its end (ten minutes if its "
                "machine has crashed), and start this command again"
            )
        self._study.set_user_attr("plans", others | {self._presence.name: mine})

    def _find_newest(self) -> dict[str, Any]:
        """Returns the newest trial of each run, by the name of its folder."""
        trials = [trial for trial in self._trials() if "name" in trial.user_attrs]
        return {trial.user_attrs["name"]: trial for trial in trials}

    def _trials(self) -> list[Any]:
        return self._study.get_trials(deepcopy=False)

    def _get(self, number: int) -> Any:
        return self._trials()[number]

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(NAME)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)

    def _set_state(self, number: int, state: str) -> None:
        new = self._optuna.trial.TrialState[state]
        self._storage.set_trial_state_values(self._id(number), state=new)
