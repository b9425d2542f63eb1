"""Builds the parts of a run that train it: data, network, method and metrics."""

import copy
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from unet_jax import data, parallel
from unet_jax.arrays import Batch, Example
from unet_jax.build import binding, checks, field_checks
from unet_jax.build.dataset import get_network_shapes, load_splits
from unet_jax.build.evaluation import (
    EvaluationParts,
    collect_evaluation,
    make_prepare,
)
from unet_jax.build.learning import Learning, build_learning, make_task
from unet_jax.build.prediction import bind_options
from unet_jax.build.preprocessing import (
    Preprocessing,
    check_label_map,
    collect_preprocessing,
    make_measure,
)
from unet_jax.data import examples, normalize, pipeline, sampling, weights
from unet_jax.data.examples import Examples
from unet_jax.data.source import Splits
from unet_jax.errors import prefix_errors
from unet_jax.methods import Method
from unet_jax.methods.layer_outputs import watch_layers
from unet_jax.methods.method import count_unlabelled_rows, skip_non_finite
from unet_jax.metrics.metric import Metric
from unet_jax.tasks import Task

# The modules of the specs that are called only when the data are read, or the devices
# are known; their names and keywords are checked before.
SPECS = {
    "data": data,
    "normalize": normalize,
    "parallel": parallel,
    "sampling": sampling,
    "weight_map": weights,
}


class TrainingParts(NamedTuple):
    """The parts of a run that train it.

    Attributes:
      evaluation: the parts that evaluate it.
      model: the network.
      schedule: the learning rate, step -> rate.
      layout: the placement of arrays on the devices.
      train_step: `(state, batch, key) -> (state, scalars)`, compiled for the layout.
      init: `(key, variables=None) -> state`, not yet on the devices.
      train: the training split.
      val: the validation split.
      unlabelled: the images without labels; None if the method uses none.
      find_bad_layer: `(state, batch, key) -> path` of the first layer whose output is
        not finite in a training step, or ''. The buffers of the state are donated.
      read_batches: `(start, stop) -> iterator` of this process's rows of the batches of
        the steps `start` to `stop - 1`. Threads read ahead of the steps.
      name_examples: the rows of a batch -> the names of their images.
      notes: JSON data for the run folder, by file name.
    """

    evaluation: EvaluationParts
    model: nn.Module
    schedule: optax.Schedule
    layout: parallel.Layout
    train_step: Callable
    find_bad_layer: Callable[[Any, Batch, jax.Array], str]
    init: Callable
    train: Examples
    val: Examples
    unlabelled: Examples | None
    read_batches: Callable[[int, int], Iterator[Batch]]
    name_examples: Callable[[Batch], list[str]]
    notes: Mapping[str, Any]


def build(
    config: ConfigDict,
    *,
    notes: Mapping[str, str] = MappingProxyType({}),
    splits: Splits | None = None,
    resumed: Preprocessing | None = None,
) -> TrainingParts:
    """Builds the parts of a run that train it. The step is not compiled yet.

    The config is checked before the data are read.

    Args:
      config: the config of the run.
      notes: as in `dataset.load_splits`.
      splits: the data, if they have already been read.
      resumed: the pre-processing of a run that is resumed, so that its scores keep
        their meaning.

    Raises:
      UserError: a field of the config is wrong, or the data have errors.
    """
    field_checks.check_fields(config)
    checks.check_precision(config)
    layout = binding.build_part(parallel, config, "parallel", parallel.Layout)
    unlabelled_size = _check_config(config, layout)
    splits = splits or load_splits(config, notes)
    if resumed is not None:
        check_label_map(resumed, splits)
        splits = _keep_class_names(splits, resumed)
    checks.check_unlabelled(config, splits, unlabelled_size)
    task = make_task(config, splits.train)
    learning = build_learning(config, task, layout.axis_name)
    preprocessing = _collect_preprocessing(config, splits, learning, resumed)
    memory = examples.MemoryBudget(config.cache * 2**30)
    train, val, test = _prepare_splits(config, splits, task, preprocessing, memory)
    first = train[0]  # checks the example; it stays in memory
    margin = learning.model.geometry(len(config.crop)).margin
    _check_examples(config, splits, learning, train, first, margin)
    unlabelled = None
    if unlabelled_size and splits.unlabelled:
        unlabelled = examples.prepare_unlabelled(
            splits.unlabelled,
            first,
            measure=make_measure(config, splits.unlabelled.channels),
            memory=memory,
            spacing=tuple(config.spacing),
        )
    return TrainingParts(
        evaluation=collect_evaluation(
            config, preprocessing, learning, test, training=True
        ),
        model=learning.model,
        schedule=learning.schedule,
        layout=layout,
        train_step=layout.compile_train(skip_non_finite(learning.method.update)),
        find_bad_layer=_make_layer_search(layout, learning.method),
        init=_make_init(config, learning.method, splits.train.channels),
        train=train,
        val=val,
        unlabelled=unlabelled,
        read_batches=_make_reader(config, train, unlabelled, unlabelled_size, margin),
        name_examples=_make_namer(config, train, unlabelled, unlabelled_size),
        notes=splits.notes,
    )


def _check_config(config: ConfigDict, layout: parallel.Layout) -> int:
    """Checks the config without data; returns the unlabelled rows of a batch."""
    checks.check_sizes(config, binding.build_model(config, layout.axis_name), layout)
    return _check_learning(config, layout.axis_name)[1]


def _check_learning(config: ConfigDict, axis_name: str | None) -> tuple[Learning, int]:
    """Builds what a run would learn with; returns also the unlabelled rows."""
    task = binding.build_task(config, binding.ANY_DATA)
    draft = build_learning(config, task, axis_name)
    for field, module in SPECS.items():
        binding.bind_field(module, config, field)
    checks.check_image_axes(config, binding.bind_field(data, config, "data"))
    checks.check_operations(config, draft.operations)
    checks.check_first_metric(draft.metrics)
    bind_options(config, draft.task)
    with prefix_errors("config.batch_size"):
        rows = count_unlabelled_rows(draft.method.unlabelled, config.batch_size)
    checks.check_sampling_share(config, config.batch_size - rows)
    return draft, rows


def check_specs(config: ConfigDict) -> tuple[tuple[str, Metric], ...]:
    """Checks a config for a run on other devices, without data.

    Args:
      config: the config of the run.

    Returns:
      The metrics with their names.

    Raises:
      UserError: a field or a spec is wrong.
    """
    field_checks.check_fields(config)
    config = copy.deepcopy(config)
    config.precision = "float32"  # the other devices may compute another one faster
    draft, _ = _check_learning(config, None)
    checks.check_sizes(config, draft.model, parallel.pmap())
    return draft.metrics


def _keep_class_names(splits: Splits, resumed: Preprocessing) -> Splits:
    """Returns the splits with the names and colours of the classes of a resumed run.

    Another version of this program may choose others for classes without a name.
    """
    names = tuple(resumed["classes"])
    colours = tuple((r, g, b) for r, g, b in resumed["colours"])
    named = len(names) == len(splits.train.classes)
    coloured = len(colours) == len(splits.train.colours)
    sources = {
        split: source._replace(
            classes=names if named else source.classes,
            colours=colours if coloured else source.colours,
        )
        for split, source in splits.sources.items()
    }
    return splits._replace(**sources)


def _collect_preprocessing(
    config: ConfigDict,
    splits: Splits,
    learning: Learning,
    resumed: Preprocessing | None,
) -> Preprocessing:
    """Returns the pre-processing of the run; `resumed` is as in `build`."""
    preprocessing = collect_preprocessing(
        config, splits, learning.task, generates=learning.method.sample is not None
    )
    if resumed is not None and "background" not in resumed:
        del preprocessing["background"]  # the run is older than the key
    return preprocessing


def _prepare_splits(
    config: ConfigDict,
    splits: Splits,
    task: Task,
    preprocessing: Preprocessing,
    memory: examples.MemoryBudget,
) -> tuple[Examples, Examples, Examples]:
    """Returns the examples to train on, to validate with and to test on."""
    prepare = make_prepare(config, splits.train, task, preprocessing, memory)
    chances = binding.bind_field(sampling, config, "sampling")
    with prefix_errors("config.data"):
        train = prepare(splits.train, chances=chances)
        val = prepare(splits.val, evaluation=True)
        test = prepare(splits.test, evaluation=True)
    return train, val, test


def _check_examples(
    config: ConfigDict,
    splits: Splits,
    learning: Learning,
    train: Examples,
    first: Example,
    margin: tuple[int, ...],
) -> None:
    """Checks the config against the training images, of which `first` is read."""
    shapes = get_network_shapes(config, splits.report) or [train.shape(0)]
    checks.check_crop(config, splits.train, shapes, margin)
    checks.check_cache(config, first, shapes)
    checks.check_terms(
        config, learning.operations, learning.terms, learning.task, first
    )


def _make_init(config: ConfigDict, method: Method, channels: int) -> Callable:
    """Returns `TrainingParts.init`."""
    image = jnp.zeros((1, *config.crop, channels))
    # It runs once, so it is not optimised much: XLA would compile for longer than the
    # training step, because each kernel has random numbers of its own.
    fast = {"xla_backend_optimization_level": 1}
    return jax.jit(
        lambda key, variables=None: method.init(key, image, variables),
        compiler_options=fast if jax.default_backend() == "cpu" else None,
    )


def _make_reader(
    config: ConfigDict,
    train: Examples,
    unlabelled: Examples | None,
    unlabelled_size: int,
    margin: tuple[int, ...],
) -> Callable[[int, int], Iterator[Batch]]:
    """Returns `TrainingParts.read_batches`."""
    labelled_size = config.batch_size - unlabelled_size
    free_rows = sampling.count_free_rows(config.sampling_share, labelled_size)

    def read_batches(start: int, stop: int) -> Iterator[Batch]:
        batches = pipeline.batch_dataset(
            train,
            seed=config.seed,
            crop=config.crop,
            margin=margin,
            batch_size=config.batch_size,
            shard=(jax.process_index(), jax.process_count()),
            unlabelled=unlabelled,
            unlabelled_size=unlabelled_size,
            free_rows=free_rows,
        )
        return pipeline.iterate_batches(
            batches, start=start, stop=stop, threads=config.threads
        )

    return read_batches


def _make_namer(
    config: ConfigDict,
    train: Examples,
    unlabelled: Examples | None,
    unlabelled_size: int,
) -> Callable[[Batch], list[str]]:
    """Returns `TrainingParts.name_examples`."""

    def name_examples(rows: Batch) -> list[str]:
        names = pipeline.name_examples(rows["seed"], train, seed=config.seed)
        if unlabelled is None:
            return names
        others = pipeline.name_examples(
            rows["seed"], unlabelled, seed=config.seed, stream=1
        )
        labelled = config.batch_size - unlabelled_size
        first = jax.process_index() * len(names)
        return [
            pair[first + row >= labelled]
            for row, pair in enumerate(zip(names, others, strict=True))
        ]

    return name_examples


def _make_layer_search(
    layout: parallel.Layout, method: Method
) -> Callable[[Any, Batch, jax.Array], str]:
    """Returns `TrainingParts.find_bad_layer`."""

    def find_bad_layer(state: Any, batch: Batch, key: jax.Array) -> str:
        found: dict[int, str] = {}
        step = layout.compile_train(watch_layers(method.update, found.__setitem__))
        jax.block_until_ready(step(state, batch, key))
        jax.effects_barrier()  # waits for the calls of `found.__setitem__`
        return found[min(found)] if found else ""

    return find_bad_layer
