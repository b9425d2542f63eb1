"""Training batches of a run, read ahead of the steps."""

from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from unet_jax.arrays import Batch
from unet_jax.build.training import TrainingParts
from unet_jax.data import pipeline


def read_batches(
    config: ConfigDict, parts: TrainingParts, start: int, stop: int
) -> Iterator[Batch]:
    """Yields this process's rows of the batches of steps `start` to `stop - 1`."""
    dataset = pipeline.batch_dataset(
        parts.train,
        seed=config.seed,
        crop=config.crop,
        margin=parts.model.geometry(len(config.crop)).margin,
        batch_size=config.batch_size,
        shard=(jax.process_index(), jax.process_count()),
        unlabelled=parts.unlabelled,
        unlabelled_size=parts.unlabelled_size,
    )
    return pipeline.iterate_batches(
        dataset, start=start, stop=stop, threads=config.threads
    )
