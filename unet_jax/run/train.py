"""The verb `train`: trains a run from its last checkpoint, or from the start."""

import math
from pathlib import Path

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build.training import TrainingParts, build
from unet_jax.checkpoint import Checkpoints
from unet_jax.errors import UserError
from unet_jax.methods.method import Scalars, State
from unet_jax.run import folder, stopping
from unet_jax.run.batches import batches
from unet_jax.run.evaluate import report, score
from unet_jax.run.judge import Scores
from unet_jax.run.starting import first_state


def train(config: ConfigDict, workdir: Path) -> int:
    """Trains to `config.steps`, then judges the best checkpoint on the test split.

    A folder that holds an unfinished run of this config is gone on with, exactly as if
    it had never stopped; a finished one is only judged again. SIGTERM and Ctrl-C save
    a checkpoint first.

    Returns:
      0, or 128 plus the number of the signal that stopped the run.

    Raises:
      UserError: the config or the folder is wrong, or a number is no longer finite.
    """
    parts = build(config, notes=folder.notes(workdir, config))
    folder.claim(workdir, config)
    best = folder.chosen_by(workdir, config)
    with Checkpoints(workdir, best) as checkpoints:
        if (checkpoints.latest or 0) >= config.steps:
            logs.say(f"{workdir} is finished: it has taken {checkpoints.latest} steps")
        else:
            _check_scored(parts, best)
            folder.record(workdir, config, parts.notes)
            if code := _loop(config, workdir, parts, checkpoints, best):
                return code
        checkpoints.wait()
        report(config, workdir, parts.evaluation, checkpoints)
    return 0


def _check_scored(parts: TrainingParts, best: str) -> None:
    name = best.removeprefix("val/")
    if name not in (*dict(parts.evaluation.metrics), "loss"):
        raise UserError(
            f"config.metrics must have {name}, by which this run's best checkpoint is "
            "chosen; any others may come and go"
        )


def _loop(
    config: ConfigDict,
    workdir: Path,
    parts: TrainingParts,
    checkpoints: Checkpoints,
    best: str,
) -> int:
    """Runs the steps that are left; returns what `train` does."""
    key = jax.random.key(config.seed)
    state, start, waiting = _begin(config, parts, checkpoints, key)
    writer = jax.process_index() == 0
    clock = logs.Clock()
    steps = batches(config, parts, start, config.steps)
    with (
        logs.Log(workdir, start, config.steps, writer=writer) as log,
        stopping.requests() as asked,
    ):
        for step, batch in enumerate(steps, start + 1):
            state, scalars = parts.train_step(state, parts.layout.put_batch(batch), key)
            waiting.append(scalars)
            log.advance(step)
            clock.count(config.batch_size)
            if step == start + 1:  # it has compiled, which later lines leave out
                jax.block_until_ready(scalars)
                first = clock.measure_speed()

            stop = stopping.due(asked, step)
            judging = step % config.eval_every == 0 or step == config.steps
            telling = judging or step % config.log_every == 0
            saving = judging or stop or step % config.checkpoint_every == 0
            if telling or saving:
                waiting = _fetch(waiting, step, checkpoints.latest)
            if telling:
                log.write_scalars(
                    step, _line(parts, waiting, step, clock.measure_speed() or first)
                )
                waiting = []
            with clock.pause():
                scores: Scores = {}
                if judging:
                    variables = parts.evaluation.method.variables(state)
                    judged = score(
                        parts.evaluation,
                        variables,
                        "val",
                        parts.val,
                        as_predicted=False,
                    )
                    scores = judged.scores
                    log.write_scalars(step, scores)
                    log.write_picture(step, "val/predictions", judged.drawn)
                if saving:
                    about = {
                        "config": folder.as_json(config),
                        "preprocessing": parts.evaluation.prediction.preprocessing,
                        "waiting": list(waiting),  # written later, and it grows
                        "chosen_by": best,
                    }
                    portable = parts.layout.make_global(state)
                    variables = parts.evaluation.method.variables
                    checkpoints.save(step, portable, variables, about, scores)
            if stop and step < config.steps:
                logs.say(f"stopped at step {step}; the same command goes on from there")
                return stopping.code(asked)
    return 0


def _begin(
    config: ConfigDict, parts: TrainingParts, checkpoints: Checkpoints, key: jax.Array
) -> tuple[State, int, list[Scalars]]:
    """The newest checkpoint, or a fresh start.

    Returns:
      The state, the steps behind it, and the scalars since the last line of the log.
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
        state = first_state(config, parts, key)
        return parts.layout.put_state(state), 0, []
    logs.say(f"resuming at step {latest}")
    like = parts.layout.abstract(shapes)
    state = checkpoints.restore(latest, like, parts.evaluation.method.variables)
    return state, latest, checkpoints.load_metadata(latest).get("waiting", [])


def _fetch(waiting: list[Scalars], step: int, latest: int | None) -> list[Scalars]:
    """The scalars of the steps up to this one, on the host, where all are finite."""
    fetched = [
        {name: float(value) for name, value in scalars.items()}
        for scalars in jax.device_get(waiting)
    ]
    for back, scalars in enumerate(reversed(fetched)):
        for name, value in scalars.items():
            if not math.isfinite(value):
                sound = f"that of step {latest} is sound" if latest else "there is none"
                raise UserError(
                    f"{name} is {value} at step {step - back}: lower "
                    "config.optimizer.learning_rate or set config.optimizer.clip, and "
                    f"choose another --workdir (of the checkpoints, {sound})"
                )
    return fetched


def _line(
    parts: TrainingParts, fetched: list[Scalars], step: int, speed: float
) -> dict[str, float]:
    """What the log says of the steps since its last line: means."""
    means = {k: sum(s[k] for s in fetched) / len(fetched) for k in sorted(fetched[0])}
    return {
        "train/loss": means.pop("loss"),
        "train/learning_rate": float(parts.schedule(step - 1)),
        "train/images_per_second": speed,
        **{f"train/{name}": mean for name, mean in means.items()},
    }
