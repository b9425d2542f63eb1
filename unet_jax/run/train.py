"""Mode `train`: trains a run from its last checkpoint, or from the start."""

import math
from pathlib import Path

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build import checks
from unet_jax.build.training import TrainingParts, build
from unet_jax.checkpoint import Checkpoints, list_steps
from unet_jax.errors import UserError
from unet_jax.methods.method import Scalars, State
from unet_jax.run import run_folder, stopping
from unet_jax.run.evaluate import score_best_checkpoint, score_split
from unet_jax.run.initial_state import check_source, create_initial_state
from unet_jax.run.scoring import Scores


def train(config: ConfigDict, workdir: Path) -> int:
    """Trains to `config.steps`, then scores the best checkpoint on the test split.

    An unfinished run of this config resumes exactly as if it had never stopped; a
    finished one is only scored again. SIGTERM and Ctrl-C save a checkpoint first.

    Returns:
      0, or 128 plus the number of the signal that stopped the run.

    Raises:
      UserError: the config or the folder is wrong, or a number is not finite.
    """
    checks.check_fields(config)
    if not list_steps(workdir):
        check_source(config)
    parts = build(config, notes=run_folder.find_notes(workdir, config))
    run_folder.create_or_check(workdir, config)
    selection_score = run_folder.read_selection_score(workdir, config)
    with Checkpoints(workdir, selection_score) as checkpoints:
        if (checkpoints.latest or 0) >= config.steps:
            logs.say(f"{workdir} is finished: it has taken {checkpoints.latest} steps")
        else:
            _check_has_metric(parts, selection_score)
            run_folder.write_config(workdir, config, parts.notes)
            code = _run_steps(config, workdir, parts, checkpoints, selection_score)
            if code:
                return code
        checkpoints.wait()
        score_best_checkpoint(config, workdir, parts.evaluation, checkpoints)
    return 0


def _check_has_metric(parts: TrainingParts, selection_score: str) -> None:
    name = selection_score.removeprefix("val/")
    if name not in (*dict(parts.evaluation.metrics), "loss"):
        raise UserError(
            f"config.metrics has no {name}, by which this run selects its best "
            "checkpoint; add it (the other metrics may change)"
        )


def _run_steps(
    config: ConfigDict,
    workdir: Path,
    parts: TrainingParts,
    checkpoints: Checkpoints,
    selection_score: str,
) -> int:
    """Runs the remaining steps; returns the exit code of `train`."""
    key = jax.random.key(config.seed)
    state, start, pending = _restore_or_init(config, parts, checkpoints, key)
    select_variables = parts.evaluation.method.variables
    writer = jax.process_index() == 0
    clock, first_speed = logs.Clock(), None
    batches = parts.read_batches(start, config.steps)
    with (
        logs.Log(workdir, start, config.steps, writer=writer) as log,
        stopping.catch_signals() as received,
    ):
        for step, batch in enumerate(batches, start + 1):
            state, scalars = parts.train_step(state, parts.layout.put_batch(batch), key)
            pending.append(scalars)
            log.advance(step)
            clock.count(config.batch_size)
            if step == start + 1:  # includes compiling, which later speeds leave out
                jax.block_until_ready(scalars)
                first_speed = clock.measure_speed()

            stop = stopping.should_stop(received, step)
            evaluating = step % config.eval_every == 0 or step == config.steps
            logging = evaluating or step % config.log_every == 0
            saving = evaluating or stop or step % config.checkpoint_every == 0
            if logging or saving:
                pending = _fetch_scalars(pending, step, checkpoints.latest)
            if logging:
                speed = clock.measure_speed() or first_speed
                log.write_scalars(step, _average_scalars(parts, pending, step, speed))
                pending = []
            with clock.pause():
                scores: Scores = {}
                if evaluating:
                    evaluation = score_split(
                        parts.evaluation,
                        select_variables(state),
                        "val",
                        parts.val,
                        as_predicted=False,
                    )
                    scores = evaluation.scores
                    log.write_scalars(step, scores)
                    log.write_picture(step, "val/predictions", evaluation.picture)
                if saving:
                    about = {
                        "config": run_folder.config_to_json(config),
                        "preprocessing": parts.evaluation.prediction.preprocessing,
                        "waiting": list(pending),  # a copy: `pending` grows meanwhile
                        "chosen_by": selection_score,
                    }
                    saved = parts.layout.make_global(state)
                    checkpoints.save(step, saved, select_variables, about, scores)
            if saving and jax.process_count() == 1:
                stop = bool(received)  # a signal may have come during the evaluation
            if stop:
                logs.say(f"stopped at step {step}; the same command resumes the run")
                return stopping.exit_code(received)
    return 0


def _restore_or_init(
    config: ConfigDict, parts: TrainingParts, checkpoints: Checkpoints, key: jax.Array
) -> tuple[State, int, list[Scalars]]:
    """Restores the newest checkpoint, or initializes a state if there is none.

    Returns:
      The state, the number of steps taken, and the scalars of the steps since the last
      line of the log.
    """
    shapes = jax.eval_shape(parts.init, key)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    images = "{} images to train on, {} to validate, {} to test".format(
        *map(len, (parts.train, parts.val, parts.evaluation.test))
    )
    if parts.unlabelled:
        images += f", {len(parts.unlabelled)} without labels"
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    logs.say(f"{config.name}: {images}; {count:,} parameters; {devices}")
    latest = checkpoints.latest
    if latest is None:
        logs.say("compiling the first step")
        state = create_initial_state(config, parts, key)
        return parts.layout.put_state(state), 0, []
    logs.say(f"resuming at step {latest}")
    like = parts.layout.abstract(shapes)
    state = checkpoints.restore(latest, like, parts.evaluation.method.variables)
    return state, latest, checkpoints.load_metadata(latest).get("waiting", [])


def _fetch_scalars(
    pending: list[Scalars], step: int, latest: int | None
) -> list[Scalars]:
    """Copies the scalars of the last steps to the host; raises if one is not finite."""
    fetched = [
        {name: float(value) for name, value in scalars.items()}
        for scalars in jax.device_get(pending)
    ]
    for back, scalars in enumerate(reversed(fetched)):
        for name, value in scalars.items():
            if not math.isfinite(value):
                saved = "no checkpoint has been saved"
                if latest:
                    saved = f"the checkpoint of step {latest} is still finite"
                raise UserError(
                    f"{name} is {value} at step {step - back}: lower "
                    "config.optimizer.learning_rate or set config.optimizer.clip, and "
                    f"choose another --workdir ({saved})"
                )
    return fetched


def _average_scalars(
    parts: TrainingParts, fetched: list[Scalars], step: int, speed: float | None
) -> dict[str, float | None]:
    """Returns the means since the last line of the log, by the names of the log."""
    means = {k: sum(s[k] for s in fetched) / len(fetched) for k in sorted(fetched[0])}
    return {
        "train/loss": means.pop("loss"),
        "train/learning_rate": float(parts.schedule(step - 1)),
        "train/images_per_second": speed,
        **{f"train/{name}": mean for name, mean in means.items()},
    }
