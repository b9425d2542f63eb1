"""A worker of a sweep: starts its runs, checks them and records their ends."""

import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_jax import logs
from unet_jax.errors import UserError
from unet_jax.progress import ReportProgress
from unet_jax.run.sweeping.files import FIGURE, RESULTS_CSV, RESULTS_MD
from unet_jax.run.sweeping.plan import Plan
from unet_jax.run.sweeping.presence import Presence
from unet_jax.run.sweeping.results import (
    ENDED,
    State,
    TrialResult,
    find_best,
    group_by_point,
    make_csv,
    make_markdown,
)
from unet_jax.run.sweeping.scores import count_skipped_steps, read_scores
from unet_jax.run.sweeping.study import Study
from unet_jax.run.sweeping.trial import Trial
from unet_jax.text import format_duration, listing

POLL = 0.3  # seconds between two checks of the processes
PAUSE = 3.0  # seconds between two checks of the study
STOPPED = {128 + s for s in (signal.SIGINT, signal.SIGTERM)}  # codes of saved runs
STOPPED |= {-signal.SIGINT, -signal.SIGTERM}  # of those that had nothing to save


class Worker:
    """The runs of this worker, and the results of all."""

    def __init__(
        self, plan: Plan, workdir: Path, output: Path, study: Study, *, at_once: int
    ) -> None:
        """Makes a worker that trains `at_once` runs at the same time."""
        self._plan, self._workdir, self._output = plan, workdir, output
        self._study, self._at_once = study, at_once
        self._trials: list[Trial] = []
        self._results: tuple[TrialResult, ...] = ()
        self._next_claim = 0.0
        self.report: ReportProgress = lambda done, total=None, note="": None

    def has_ended(self) -> bool:
        """Returns True if every run of the sweep has ended."""
        ended = [result for result in self._results if result.state in ENDED]
        everything = len(ended) == len(self._results) >= self._plan.trials
        return everything and not self._trials

    def update_runs(self, present: Presence, received: Sequence[int]) -> None:
        """Checks the runs of this worker once, and starts a further one.

        Args:
          present: the presence of this worker, which is renewed.
          received: the signals to stop that this process has received; the list grows.
        """
        present.renew()
        for trial in list(self._trials):
            code = trial.poll()
            if code in STOPPED and not trial.pruned:
                time.sleep(1)  # this process may get the same signal
                if received:
                    return
            if code is None:
                self._check(trial)
            elif code and trial.is_in_use():  # by a process of a killed worker
                trial.reset()
            else:
                self._end(trial, code)
        if not self._start_next():
            time.sleep(POLL)

    def stop_processes(self, present: Presence) -> None:
        """Stops the processes of this worker, and waits until they have saved."""
        for trial in self._trials:
            trial.stop()
        try:
            while any(t.started and t.poll() is None for t in self._trials):
                present.renew()
                time.sleep(POLL)
        except KeyboardInterrupt:
            for trial in self._trials:
                trial.kill()

    def release_runs(self) -> None:
        """Gives back the runs of this worker that were stopped; they continue later."""
        for trial in list(self._trials):
            if trial.poll() == 0:
                self._end(trial, 0)
            else:
                trial.note("stopped")
                self._study.release(trial.claim)

    def write_results(self) -> tuple[TrialResult, ...]:
        """Writes the results of all runs up to now, and returns them."""
        with self._study.lock():
            self._results = results = self._study.list_results()
            for name, text in (
                (RESULTS_CSV, make_csv(self._plan, results)),
                (RESULTS_MD, make_markdown(self._plan, results)),
            ):
                logs.write_file(self._output / name, text.encode())
        if any(result.scores for result in results):
            # late: matplotlib loads only when a figure is drawn; this may take longer
            # than the lock may be held
            from unet_jax.run.sweeping.figure import draw_figure

            figure = draw_figure(self._plan, results, self._workdir.name)
            logs.write_file(self._output / FIGURE, figure)
        return results

    def _start_next(self) -> bool:
        """Starts a run if this worker may train one more; returns True if it did."""
        if len(self._trials) >= self._at_once or time.monotonic() < self._next_claim:
            return False
        if claim := self._study.claim():
            trial = Trial(self._plan, claim, self._workdir)
            self._trials.append(trial)
            if not trial.start():
                logs.say(f"{claim.name}: waiting for the process that trains it")
            return True
        self._next_claim = time.monotonic() + PAUSE
        self._results = self._study.list_results()
        self._show_progress()
        return False

    def _check(self, trial: Trial) -> None:
        """Starts a run that had to wait, ends one of another worker, or prunes one.

        Nothing is done until `PAUSE` after the last check.
        """
        if time.monotonic() < trial.next_check:
            return
        trial.next_check = time.monotonic() + PAUSE
        if not self._study.owns(trial.claim):
            trial.kill()  # two processes would write to one run folder
            self._lose(trial)
        elif not trial.started:
            trial.start()
        elif self._plan.space and not trial.pruned:
            self._prune(trial)

    def _lose(self, trial: Trial) -> None:
        """Leaves a run to the worker that has taken it over."""
        self._trials.remove(trial)
        trial.note("taken over by another worker")
        name = trial.claim.name
        logs.warn(
            f"{name}: another worker has taken it over, because this one was "
            "silent for too long"
        )

    def _prune(self, trial: Trial) -> None:
        """Passes new validation scores on, and stops a run that is not promising.

        A run is compared again later, because others have reached its step by then.
        """
        self._study.report(trial.claim, trial.read_new_scores())
        if self._study.should_prune(trial.claim):
            trial.prune()

    def _end(self, trial: Trial, code: int) -> None:
        """Records the end of a run, with the scores since the last check."""
        plan, minutes = self._plan, trial.read_minutes()
        name, reason = trial.claim.name, ""
        scores: dict[str, float | None] = {}
        state: State = "failed"
        if code == 0:
            try:
                scores, state = read_scores(trial.folder, plan.scores), "complete"
            except UserError as error:
                reason = str(error)
        elif trial.pruned and code in STOPPED:
            state, reason = "pruned", trial.pruned
        else:
            reason = trial.describe_failure(code)
        self._next_claim = 0.0
        if plan.space and self._study.owns(trial.claim):
            self._study.report(trial.claim, trial.read_new_scores())
        skipped = count_skipped_steps(trial.folder)
        if not self._study.finish(
            trial.claim, state, scores, minutes, skipped=skipped, reason=reason
        ):
            self._lose(trial)
            return
        trial.note(f"{state}: {reason.splitlines()[0]}" if reason else state)
        self._trials.remove(trial)
        try:
            self.write_results()
        except OSError as error:  # such as a full disk; the journal has the scores
            logs.warn(f"{error.filename} is not written: {error.strerror}")
        lines = [line for line in reason.splitlines() if line]
        end = f"{state}{_describe_end(scores, lines)}"
        end += f", {skipped} steps skipped" if skipped else ""
        logs.say(f"{name}: {end}{self._show_progress()}")

    def _show_progress(self) -> str:
        """Moves the progress bar; returns its text for a line."""
        rows = group_by_point(self._plan, self._results)
        done = sum(result.state in ENDED for result in self._results)
        failed = sum(result.state == "failed" for result in self._results)
        parts = [f"{done} of {self._plan.trials} done"]
        if failed:
            parts[0] += f", {failed} of them failed"
        so_far = " so far" if done < self._plan.trials else ""
        if best := find_best(self._plan, rows):
            score = statistics.mean(best[0].scores[self._plan.scores[0]])
            names = listing((row.point for row in best), most=2)
            parts.append(f"best{so_far} {names} {score:.4f}")
        if sys.stdout.isatty():  # elsewhere, each end of a run has its line
            self.report(done, note="; ".join(parts[1:]))
        left = estimate_left(self._results, self._plan.trials, self._at_once)
        if left:
            parts.append(f"about {format_duration(60 * left)} left")
        return f"; {'; '.join(parts)}"


def estimate_left(
    results: Sequence[TrialResult], trials: int, at_once: int
) -> float | None:
    """Returns the minutes that a sweep may still take; None if not known.

    Args:
      results: of the runs until now.
      trials: the number of runs of the sweep.
      at_once: the number of runs that this worker trains at the same time. Other
        workers may train further ones.
    """
    times = [r.minutes for r in results if r.state == "complete" and r.minutes]
    left = trials - sum(result.state in ENDED for result in results)
    if not times or not left:
        return None
    running = sum(result.state == "running" for result in results)
    return statistics.mean(times) * left / min(max(running, at_once), left)


def _describe_end(scores: Mapping[str, float | None], lines: Sequence[str]) -> str:
    """Returns the scores of a run, or the reason of its end."""
    if lines:
        last = f"; the last line of its log: {lines[-1]}" if lines[1:] else ""
        return f" ({lines[0]}{last})"
    found = [
        f"{name} {'undefined' if value is None else f'{value:.4f}'}"
        for name, value in scores.items()
    ]
    return f", {', '.join(found)}" if found else ""
