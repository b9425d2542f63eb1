"""Mode `train`: trains a run from its last checkpoint, or from the start."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build import field_checks
from unet_jax.build.early_checks import check_source
from unet_jax.build.training import TrainingParts, build
from unet_jax.checkpoint import Checkpoints, clean, list_steps
from unet_jax.errors import UserError
from unet_jax.inference import DeviceError, is_out_of_memory
from unet_jax.methods.method import State
from unet_jax.progress import show_progress
from unet_jax.run import provenance, run_folder, stopping
from unet_jax.run.evaluate import score_best_checkpoint
from unet_jax.run.initial_state import create_initial_state
from unet_jax.run.saver import Saver
from unet_jax.run.step_profile import StepProfile, check_span
from unet_jax.run.step_scalars import StepScalars
from unet_jax.run.trackers import Tracker, check_installed, open_trackers
from unet_jax.run.training_log import TrainingLog
from unet_jax.run.validation import validate
from unet_jax.text import listing


def train(config: ConfigDict, workdir: Path, trackers: Sequence[Tracker] = ()) -> int:
    """Trains to `config.steps`, then scores the best checkpoint on the test split.

    An unfinished run of this config resumes exactly as if it had never stopped; a
    finished one is only scored again. SIGTERM and Ctrl-C save a checkpoint first.

    Args:
      config: the config.
      workdir: the run folder.
      trackers: open trackers that get the numbers, besides those of `config.logs`.

    Returns:
      0, or 128 plus the number of the signal that stopped the run.

    Raises:
      UserError: the config or the folder is wrong, another process trains in the
        folder, or too many steps in a row have numbers that are not finite.
    """
    session = provenance.start_session()
    field_checks.check_fields(config)
    check_span(config.profile, config.steps)
    run_folder.check_unlocked(workdir)
    check_installed(config.logs)
    if not list_steps(workdir):
        check_source(config)
    parts = build(
        config,
        notes=run_folder.find_notes(workdir, config),
        resumed=run_folder.read_preprocessing(workdir),
    )
    run_folder.create_or_check(workdir, config)
    run_folder.check_links(workdir)
    selection_score = run_folder.read_selection_score(workdir, config)
    with (
        run_folder.lock(workdir),
        run_folder.open_checkpoints(workdir, config) as checkpoints,
        open_trackers(config, workdir, trackers) as opened,
    ):
        clean(workdir)
        if (checkpoints.latest or 0) >= config.steps:
            logs.say(f"{workdir} is finished: it has taken {checkpoints.latest} steps")
            run_folder.restore_config(workdir, config, parts.notes)
        else:
            _check_has_metric(parts, selection_score)
            run_folder.write_config(workdir, config, parts.notes)
            saver = Saver(config, workdir, parts, checkpoints, selection_score, session)
            if code := _run_steps(config, workdir, parts, saver, opened):
                return code
        checkpoints.wait()
        run_folder.check_not_removed(workdir)
        score_best_checkpoint(
            config, workdir, parts.evaluation, checkpoints, opened, session
        )
    return 0


def _check_has_metric(parts: TrainingParts, selection_score: str) -> None:
    name = selection_score.removeprefix("val/")
    if name not in (*dict(parts.evaluation.metrics), "loss"):
        raise UserError(
            f"config.metrics has no {name}, by which this run selects its best "
            "checkpoint; add it (the other metrics may change)"
        )


@contextlib.contextmanager
def _explain_exhausted_memory() -> Iterator[None]:
    """Turns the error of a machine or a device without memory into one line."""
    try:
        yield
    except (DeviceError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "a training step needs more memory than there is; lower config.batch_size, "
            "config.crop or config.model.widths, or set config.model.remat=True"
        ) from error


@_explain_exhausted_memory()
def _run_steps(
    config: ConfigDict,
    workdir: Path,
    parts: TrainingParts,
    saver: Saver,
    trackers: Sequence[Tracker],
) -> int:
    """Runs the remaining steps; returns the exit code of `train`."""
    key = jax.random.key(config.seed)
    _say_sizes(config, parts, key)
    state, start, waiting = _restore_or_init(config, parts, saver, key)
    writer = jax.process_index() == 0
    clock, first_speed = logs.Clock(), None
    batches = parts.read_batches(start, config.steps)
    profile = StepProfile(config.profile, workdir, start)
    with (
        TrainingLog(workdir, start, config.steps, trackers, writer=writer) as log,
        contextlib.closing(profile),
        stopping.catch_signals() as received,
    ):
        for step, batch in enumerate(batches, start + 1):
            profile.start(step, state)
            state, scalars = parts.train_step(state, parts.layout.put_batch(batch), key)
            profile.stop(step, scalars)
            waiting.add(scalars)
            clock.count(config.batch_size)
            if step == start + 1:  # includes compiling, which later speeds leave out
                jax.block_until_ready(scalars)
                first_speed = clock.measure_speed()
            log.advance(step)

            stop = stopping.should_stop(received, step)
            due = _find_due(config, step, stop=stop)
            if due.log or due.save:
                waiting.fetch()
                if waiting.count_skipped_in_a_row() >= config.max_bad_steps:
                    skipped = waiting.list_skipped(step)[-1]
                    raise _explain_stop(
                        parts, state, key, skipped, saver.checkpoints, workdir
                    )
            if due.log:
                speed = clock.measure_speed() or first_speed
                _write_scalars(log, waiting, parts, step, speed)
            if not due.save:
                continue
            with clock.pause():
                evaluation = None
                if due.evaluation:
                    first = step - start <= config.eval_every
                    evaluation = validate(parts, state, step, log, first=first)
                saver.save(state, step, waiting, evaluation, validated=due.evaluation)
            if jax.process_count() == 1:
                stop = bool(received)  # a signal may have come during the evaluation
            if stop:
                log.say_times()
                logs.say(f"stopped at step {step}; the same command resumes the run")
                return stopping.exit_code(received)
        log.say_times()
    return 0


def _write_scalars(
    log: TrainingLog,
    waiting: StepScalars,
    parts: TrainingParts,
    step: int,
    speed: float | None,
) -> None:
    """Writes the waiting scalars as a line of the log, and names skipped steps."""
    log.write_scalars(step, waiting.summarize(parts.schedule, step, speed))
    if line := waiting.describe_skipped(step):
        logs.say(line)
    waiting.clear()


class _Due(NamedTuple):
    """The work after a step. An evaluated or last state is also saved."""

    log: bool
    evaluation: bool
    save: bool


def _find_due(config: ConfigDict, step: int, *, stop: bool) -> _Due:
    """Returns the work after a step; `stop` is True if the run stops after it."""
    evaluation = step % config.eval_every == 0 or step == config.steps
    return _Due(
        log=evaluation or step % config.log_every == 0,
        evaluation=evaluation,
        save=evaluation or stop or step % config.checkpoint_every == 0,
    )


def _say_sizes(config: ConfigDict, parts: TrainingParts, key: jax.Array) -> None:
    """Prints the numbers of images, parameters and devices."""
    shapes = jax.eval_shape(parts.init, key)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    images = "{} images to train on, {} to validate, {} to test".format(
        *map(len, (parts.train, parts.val, parts.evaluation.test))
    )
    if parts.unlabelled:
        images += f", {len(parts.unlabelled)} without labels"
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    logs.say(f"{config.name}: {images}; {count:,} parameters; {devices}")


def _restore_or_init(
    config: ConfigDict, parts: TrainingParts, saver: Saver, key: jax.Array
) -> tuple[State, int, StepScalars]:
    """Restores the newest checkpoint, or initializes a state if there is none.

    Returns:
      The state, the number of steps taken, and the scalars of the steps since the last
      line of the log.
    """
    if restored := saver.restore(jax.eval_shape(parts.init, key)):
        state, step, waiting = restored
        logs.say(f"resuming at step {step}")
        return state, step, waiting
    with show_progress("initialising the network"):
        state = create_initial_state(config, parts, key)
    return parts.layout.put_state(state), 0, StepScalars()


def _explain_stop(
    parts: TrainingParts,
    state: State,
    key: jax.Array,
    step: int,
    checkpoints: Checkpoints,
    workdir: Path,
) -> UserError:
    """Returns the error of a run that skipped too many steps in a row.

    The last of them is repeated. No skipped step has changed the state, whose buffers
    are donated.
    """
    rows = next(iter(parts.read_batches(step - 1, step)))
    layer = parts.find_bad_layer(state, parts.layout.put_batch(rows), key)
    cause = "the loss, its gradient or the new parameters are not finite"
    if layer:
        cause = f"the first layer whose output is not finite is {layer}"
    checkpoints.wait()
    saved = "no checkpoint has been saved"
    if latest := checkpoints.latest:
        saved = f"the checkpoint of step {latest} is finite"
    change = "Lower config.optimizer.learning_rate or set config.optimizer.clip"
    return UserError(
        f"config.max_bad_steps: too many steps in a row were skipped. At step {step}, "
        f"with the images {listing(parts.name_examples(rows))}, {cause}. "
        f"{run_folder.advise_change(workdir, change)} ({saved})"
    )
