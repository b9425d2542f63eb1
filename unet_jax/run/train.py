"""The verb `train`: from the last checkpoint, or from nothing, to the scores."""

import contextlib
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build import Parts, build
from unet_jax.checkpoint import Checkpoints
from unet_jax.data import pipeline
from unet_jax.errors import UserError
from unet_jax.run import folder
from unet_jax.run.evaluate import best_score, report
from unet_jax.run.judge import Scores, judge
from unet_jax.step import Scalars, State


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains to `config.steps`, then judges the best checkpoint on the test split.

    A folder that holds an unfinished run of this config is gone on with, exactly as if
    it had never stopped; a finished one is only judged again. SIGTERM and Ctrl-C save
    a checkpoint first.

    Raises:
      UserError: the config or the folder is wrong, or a number is no longer finite.
    """
    parts = build(config)
    folder.claim(workdir, config)
    folder.record(workdir, config)
    with Checkpoints(workdir, best_score(parts)) as checkpoints:
        if (checkpoints.latest or 0) >= config.steps:
            logs.say(f"{workdir} is finished: it has taken {checkpoints.latest} steps")
        elif not _loop(config, workdir, parts, checkpoints):
            return
        checkpoints.wait()
        report(config, workdir, parts, checkpoints)


def _begin(
    config: ConfigDict, parts: Parts, checkpoints: Checkpoints, key: jax.Array
) -> tuple[State, int]:
    """The newest checkpoint's state, or a fresh one, and the steps behind it."""
    shapes = jax.eval_shape(parts.init, key)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    images = "{} images to train on, {} to validate, {} to test".format(
        *map(len, (parts.train, parts.val, parts.test))
    )
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    logs.say(f"{config.name}: {images}; {count:,} parameters; {devices}")
    latest = checkpoints.latest
    if latest is None:
        logs.say("compiling the first step")
        return parts.layout.put_state(parts.init(key)), 0
    logs.say(f"resuming at step {latest}")
    return checkpoints.restore(latest, parts.layout.abstract(shapes)), latest


def _loop(
    config: ConfigDict, workdir: Path, parts: Parts, checkpoints: Checkpoints
) -> bool:
    """Runs the steps that are left; returns whether all of them ran."""
    key = jax.random.key(config.seed)
    state, start = _begin(config, parts, checkpoints, key)
    writer = jax.process_index() == 0
    clock, waiting = logs.Clock(), []
    with (
        logs.Log(workdir, start, config.steps, writer=writer) as log,
        _requests_to_stop() as requests,
    ):
        for step, batch in enumerate(_batches(config, parts, start), start + 1):
            state, scalars = parts.train_step(state, parts.layout.put_batch(batch), key)
            waiting.append(scalars)
            log.advance(step)
            clock.count(config.batch_size)
            if step == start + 1:  # it has compiled, which later lines leave out
                jax.block_until_ready(scalars)
                first = clock.speed()

            stop = _must_stop(requests, step)
            judging = step % config.eval_every == 0 or step == config.steps
            saving = judging or stop or step % config.checkpoint_every == 0
            if saving or step % config.log_every == 0:
                means = _means(waiting, step, checkpoints.latest)
                waiting = []
                log.scalars(
                    step,
                    {
                        "train/loss": means.pop("loss"),
                        "train/learning_rate": float(parts.schedule(step - 1)),
                        "train/images_per_second": clock.speed() or first,
                        **{f"train/{name}": mean for name, mean in means.items()},
                    },
                )
            with clock.paused():
                scores: Scores = {}
                if judging:
                    scores, drawn = judge(config, parts, state, "val", parts.val)
                    log.scalars(step, scores)
                    log.picture(step, "val/predictions", drawn)
                if saving:
                    score = scores.get(best_score(parts))
                    _save(config, parts, checkpoints, step, state, score)
            if stop:
                logs.say(f"stopped at step {step}; the same command goes on from there")
                return step == config.steps
    return True


def _save(
    config: ConfigDict,
    parts: Parts,
    checkpoints: Checkpoints,
    step: int,
    state: State,
    score: float | None,
) -> None:
    about = {"config": folder.as_json(config), "preprocessing": parts.preprocessing}
    checkpoints.save(step, parts.layout.portable(state), about, score)


def _batches(config: ConfigDict, parts: Parts, start: int) -> Iterator[pipeline.Batch]:
    dataset = pipeline.batches(
        parts.train,
        seed=config.seed,
        crop=config.crop,
        margin=parts.model.margin,
        batch_size=config.batch_size,
        shard=(jax.process_index(), jax.process_count()),
    )
    return pipeline.iterate(
        dataset, start=start, steps=config.steps, threads=config.threads
    )


def _means(waiting: list[Scalars], step: int, latest: int | None) -> dict[str, float]:
    """The mean of each scalar over the steps since the last line."""
    fetched = jax.device_get(waiting)
    means = {
        name: float(sum(s[name] for s in fetched) / len(fetched)) for name in fetched[0]
    }
    for name, value in means.items():
        if not math.isfinite(value):
            kept = (
                f"the checkpoint of step {latest} is sound"
                if latest
                else "no checkpoint yet"
            )
            raise UserError(
                f"the {name} is {value} by step {step} ({kept}): lower "
                "config.optimizer.learning_rate or set config.optimizer.clip, and "
                "choose another --workdir"
            )
    return means


@contextlib.contextmanager
def _requests_to_stop() -> Iterator[list[int]]:
    """A list that SIGTERM and Ctrl-C append to, so that the step can be finished.

    A second signal does not wait for that. Of several processes SIGTERM is JAX's, which
    tells the others; Ctrl-C becomes one.
    """
    requests: list[int] = []
    several = jax.process_count() > 1

    def request(number: int, _: object) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    signals = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(s, request) for s in signals]
    try:
        yield requests
    finally:
        for s, handler in zip(signals, before, strict=True):
            signal.signal(s, handler)


def _must_stop(requests: list[int], step: int) -> bool:
    """Whether to stop after this step; processes of one run agree on the step."""
    if jax.process_count() == 1:
        return bool(requests)
    return multihost_utils.reached_preemption_sync_point(step)
