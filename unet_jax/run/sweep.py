"""Mode `sweep`: trains every run of a sweep, and compares their scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax import logs, parallel
from unet_jax.build.sweep_file import Sweep, read_sweep_file
from unet_jax.checkpoint import holds_sweep
from unet_jax.errors import UserError
from unet_jax.progress import show_progress
from unet_jax.run import run_folder, stopping
from unet_jax.run.sweeping import presence
from unet_jax.run.sweeping.files import (
    FIGURE,
    LOGS,
    RESULTS_CSV,
    RESULTS_MD,
    check_folder,
)
from unet_jax.run.sweeping.plan import (
    Plan,
    find_equal_points,
    list_configs,
    plan_sweep,
)
from unet_jax.run.sweeping.results import (
    MOST_ROWS,
    TrialResult,
    describe_skipped,
    describe_table,
    group_by_point,
    make_table,
)
from unet_jax.run.sweeping.scores import check_classes
from unet_jax.run.sweeping.study import Study, import_optuna
from unet_jax.run.sweeping.worker import Worker
from unet_jax.text import listing, tabulate


def sweep(
    config: ConfigDict,
    workdir: Path,
    *,
    source: str,
    given: Mapping[str, Any],
    workers: int = 1,
    output: str | None = None,
) -> int:
    """Runs the sweep of a sweep file; see `run_sweep`.

    Args:
      config: the base config, with the fields of the command line.
      workdir: the folder of the sweep.
      source: the sweep file.
      given: the fields of the command line.
      workers: the number of runs that train at the same time here.
      output: the folder of the results; `workdir` if None.

    Returns:
      0, or 128 plus the number of the signal that stopped the sweep.

    Raises:
      UserError: the sweep is wrong, or a run failed.
    """
    read = read_sweep_file(source)._replace(given=given)
    folder = Path(output).expanduser() if output else None
    code, results = run_sweep(read, config, workdir, workers=workers, output=folder)
    failed = [result.name for result in results if result.state == "failed"]
    if failed and code <= 1:
        raise UserError(
            f"{len(failed)} of {len(results)} runs failed: {listing(failed, 10)}; "
            f"{workdir / LOGS} has the reasons. The same command repeats them"
            f"{', with the changes that you make to their points' * bool(read.points)}"
        )
    return code


def run_sweep(
    sweep: Sweep,
    config: ConfigDict,
    workdir: Path,
    *,
    workers: int = 1,
    output: Path | None = None,
) -> tuple[int, tuple[TrialResult, ...]]:
    """Runs what is left of a sweep, together with the other machines that take part.

    It returns when every run has ended, those of other machines too. The process uses
    the CPU alone, because its runs are processes of their own.

    Args:
      sweep: the sweep.
      config: the base config; `sweep.given` may be set in it already.
      workdir: the folder of the sweep, which all machines share.
      workers: the number of runs that train at the same time here.
      output: the folder of results.csv, results.md and figure.svg; `workdir` if None.

    Returns:
      The exit code (0; 1 if a run failed; 128 plus the number of the signal that
      stopped the sweep) and the results of all runs, in the order of the points.

    Raises:
      UserError: a point is wrong, or the folder holds another sweep.
    """
    parallel.stay_on_cpu()
    import_optuna(sweep.kind)
    check_folder(workdir, sweep.kind)
    plan = plan_sweep(sweep, config, workdir)
    if not holds_sweep(workdir):  # else its first start has checked them
        check_classes(plan.scores, (each for _, each in list_configs(plan, config)))
    for names in find_equal_points(plan, config):
        logs.warn(f"the points {listing(names)} have equal configs")
    run_folder.create(workdir)
    run_folder.create(output or workdir, "output")
    with (
        stopping.catch_signals() as received,
        presence.announce(workdir) as present,
    ):
        study = Study(plan, workdir, present)
        worker = Worker(plan, workdir, output or workdir, study, at_once=workers)
        worker.write_results()
        try:
            with show_progress(plan.kind, plan.trials, silent=True) as report:
                worker.report = report
                while not received and not worker.has_ended():
                    worker.update_runs(present, received)
        finally:  # after an error, too: nobody would look after its runs
            worker.stop_processes(present)
        worker.release_runs()
        results = worker.write_results()
    if received:
        logs.say(f"stopped; the same command continues the {plan.kind} in {workdir}")
        return stopping.exit_code(received), results
    _print_table(plan, results)
    logs.say(f"wrote {output or workdir}/: {RESULTS_CSV}, {RESULTS_MD}, {FIGURE}")
    return int(any(result.state == "failed" for result in results)), results


def _print_table(plan: Plan, results: Sequence[TrialResult]) -> None:
    """Prints the scores of the points; only the best of a long search."""
    rows = group_by_point(plan, results)
    most = MOST_ROWS if plan.space else len(rows)
    for line in describe_skipped(results):
        logs.warn(line)
    logs.say(describe_table(plan, rows))
    table = make_table(plan, rows[:most])
    for line in tabulate(table, logs.find_line_width(), keep_names=True):
        logs.say(line)
    if most < len(rows):
        logs.say(f"the best {most} of {len(rows)} runs; results.md has all")
