"""Tiled inference with one network or an ensemble, on the local devices.

Images are divided into tiles (tiling.py), and tiles are grouped into batches. Each
batch goes through every member of the ensemble in every view. The devices average the
predictions. The host reads the results of a batch while the next one is computed.
"""

import collections
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax import tiling
from unet_jax.errors import UserError
from unet_jax.geometry import Geometry
from unet_jax.logs import say
from unet_jax.parallel import LocalDevices
from unet_jax.runtime import Program, Runtime
from unet_jax.tasks import Task
from unet_jax.text import dimensions
from unet_jax.tiling import ReadBox, Results, Tiles
from unet_jax.views import View, apply_view, invert_view

MEMORY_SHARE = 0.5  # of the free memory, for one compiled program
MAX_PROGRAMS = 16  # compiled before images of other sizes share one of them

FINITE = "finite"  # name of a result for each tile: True if its prediction is finite

DeviceError = jax.errors.JaxRuntimeError  # raised when memory is short, for example


class NonFinitePredictionError(UserError):
    """The output of a network for an image is infinite or not a number."""


class Request(NamedTuple):
    """The results that a caller needs besides the label.

    Attributes:
      prediction: `f32[*S, channels]`, the mean over members and views. A task without
        classes has no label, so it always returns the prediction.
      member_entropy: `f32[*S]`, the mean over the members of their entropies, in nats.
        The members are the runs of an ensemble, each with its mean over the views. With
        a single run, the members are its views.
      output: `f32[*S, channels]`, the output of the network, before the activation, of
        the last member in the last view.
    """

    prediction: bool = False
    member_entropy: bool = False
    output: bool = False


LABEL_ONLY = Request()


def is_out_of_memory(error: Exception) -> bool:
    """Returns True if the memory of the machine or of a device was too small."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


class Inference:
    """A network for tiled inference, with its compiled programs cached by shape.

    Args:
      runtime: computes the network.
      geometry: number of spatial axes -> the sizes of the network.
      task: the meaning of its output.
      channels: C of every image.
      devices: the devices of this process.
      edges: the maximal size of a tile along each axis; (): about four million pixels
        in all, or more for a deep network; fewer if memory is short.
      batch: the number of tiles on all devices at a time; 0: as the memory allows.
      even: True for tiles of exactly these edges at equal steps, as in nnU-Net.
      scales: the offsets and the widths, for each channel, of the values of each
        member; the mean over the members is in the units of the values. (): all members
        predict on the same scale, and so does their mean.

    Raises:
      UserError: a tile with these edges has no output that can be used.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        geometry: Callable[[int], Geometry],
        task: Task,
        channels: int,
        devices: LocalDevices,
        edges: tuple[int, ...] = (),
        batch: int = 0,
        even: bool = False,
        scales: Sequence[Sequence[Sequence[float]]] = (),
    ) -> None:
        self._geometry = functools.cache(geometry)
        self._even = even
        self._scales = [np.asarray(scale, np.float32) for scale in scales]
        if edges and not even:
            tiling.check_edges(edges, self._geometry(len(edges)))
        self.devices = devices
        self.task = task
        self.place = runtime.place
        self._runtime = runtime
        self._channels = channels
        self._requested = self._edges, self._batch = edges, batch
        self._max_pixels = 0  # on a device at a time; 0: not yet chosen
        self._used_pixels = 0  # on a device at a time, for the current image
        self._smallest: tuple[int, ...] = ()  # shape of the tile, if it is the smallest
        self._announced = False  # that tiles are blended
        self._programs: dict[tuple[int, ...], Program] = {}
        jit = functools.partial(jax.jit, out_shardings=devices.batch_sharding)
        self._apply_view = jit(apply_view, static_argnums=1)
        self._predict_view = jit(self._activate, static_argnums=1)
        self._add = jit(self._add_member, static_argnums=2)
        self._finish = jit(self._collect_results, static_argnums=(1, 2, 3))

    def predict_rows(
        self,
        members: Sequence[Any],
        shape: tuple[int, ...],
        images: Sequence[ReadBox],
        *,
        views: tuple[View, ...] = (View(),),
        request: Request = LABEL_ONLY,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Results]:
        """Predicts images of one shape, a block of rows at a time.

        Args:
          members: the variables of each member, placed by `place`.
          shape: the spatial shape of every image.
          images: for each image, a function that reads a box of it, `f32[*box, C]`,
            normalised.
          views: of test-time augmentation.
          request: the results to return.
          on_progress: called with the number of finished tiles and of all tiles.

        Yields:
          Arrays by name for consecutive rows of the first image, then of the next
          image: the requested ones and, if the task has classes, `label`, which is
          `u8[*S]` or `u8[*S, K]` (`i32` with more than 256 classes).

        Raises:
          DeviceError: the devices failed. Pass the error to `reduce_memory`, then try
            again.
          NonFinitePredictionError: the network's output is not finite.
          UserError: the smallest tile needs more memory than is free.
        """
        tiles, size = self._choose_tiles(members, shape)
        needs_prediction = tiles.blend or self.task.decide is None
        request = request._replace(prediction=request.prediction or needs_prediction)
        inputs = (
            tiling.read_tile(tiles, tile, read) for read in images for tile in tiles
        )
        predict = functools.partial(
            self._predict_batch,
            members=members,
            views=views,
            request=request,
            blend=tiles.blend,
        )
        results = self._run_batches(predict, inputs, size)
        results = _report_progress(results, len(images) * tiles.count, on_progress)
        if not tiles.blend:
            for _ in images:
                yield from tiling.assemble_tiles(tiles, results)
            return
        if not self._announced and not self._even:
            say(
                "a pixel depends on the whole image (by the norm or the upsampling), "
                "so tiles cannot equal it; they overlap by half and are blended"
            )
            self._announced = True
        # the labels of two tiles have no mean
        results = ({k: a for k, a in r.items() if k != "label"} for r in results)
        for _ in images:
            for rows in tiling.assemble_tiles(tiles, results):
                rows["prediction"] = self.task.complete(rows["prediction"])
                yield rows | self._decide(rows["prediction"])

    def predict_images(
        self,
        members: Sequence[Any],
        shape: tuple[int, ...],
        images: Sequence[ReadBox],
        **options: Any,
    ) -> Iterator[Results]:
        """Predicts images of one shape, one image at a time.

        It is `predict_rows` with the rows of each image joined. If memory is short, it
        continues with fewer pixels at a time.
        """
        done = 0
        while done < len(images):
            rows = self.predict_rows(members, shape, images[done:], **options)
            try:
                while done < len(images):
                    yield _join_rows(rows, shape[0])
                    done += 1
            except DeviceError as error:
                self.reduce_memory(error)

    def reduce_memory(self, error: Exception | None = None) -> None:
        """Reduces the pixels on a device at a time, and prints a line about it.

        Args:
          error: of the devices, if there was one.

        Raises:
          DeviceError: the error, if it is not about memory.
          UserError: the number of pixels is already the smallest.
        """
        if error and not is_out_of_memory(error):
            raise error
        self._programs.clear()
        if self._smallest:
            # the next image starts with the default size again
            self._max_pixels, (self._edges, self._batch) = 0, self._requested
            shape = dimensions(self._smallest)
            raise UserError(
                f"a tile of {shape} pixels, the smallest that the network can use, "
                "needs more memory than there is; free some, or use a larger device"
            )
        self._max_pixels = self._used_pixels // 2
        self._edges = tuple(round(0.7 * edge) for edge in self._edges)
        self._batch = -(-self._batch // 2)
        say(
            f"memory is short: {self._used_pixels:,} pixels at a time are too many; "
            "using fewer"
        )

    def _choose_tiles(
        self, members: Sequence[Any], shape: tuple[int, ...]
    ) -> tuple[Tiles, int]:
        """Returns the tiles of an image, and a batch size with which they fit."""
        geometry = self._geometry(len(shape))
        self._max_pixels = self._max_pixels or tiling.find_max_pixels(geometry)
        while True:
            tiles = self._plan_tiles(shape, pixels=self._max_pixels, edges=self._edges)
            size = self._choose_batch_size(tiles)
            # any tiles give the same result
            exact = geometry.halo is not None and not self._even
            fixed = bool(self._edges and self._batch)
            if exact and not fixed and len(self._programs) >= MAX_PROGRAMS:
                tiles, size = self._reuse_program(tiles, size)
            count = self.devices.count
            self._used_pixels = math.prod(tiles.shape) * size // count
            smallest = tiles == self._plan_tiles(shape, pixels=1) and size == count
            self._smallest = tiles.shape if smallest else ()
            if fixed:
                return tiles, size
            memory = self._measure_memory(members[0], tiles, size)
            if memory <= MEMORY_SHARE * self.devices.read_free_memory():
                return tiles, size
            self.reduce_memory()

    def _plan_tiles(self, shape: tuple[int, ...], **size: Any) -> Tiles:
        if self._even:
            return tiling.plan_even_tiles(shape, self._requested[0])
        return tiling.plan_tiles(shape, self._geometry(len(shape)), **size)

    def _reuse_program(self, tiles: Tiles, size: int) -> tuple[Tiles, int]:
        """Returns tiles for a compiled program, if they need less than twice the work.

        Compilation takes seconds, and each image of a folder may have another size. The
        rounding of a result then depends on the images before it.
        """

        def count_pixels(tiles: Tiles, size: int) -> int:
            batches = -(-tiles.count // size)
            return batches * size * math.prod(tiles.shape)

        best, best_pixels = (tiles, size), 2 * count_pixels(tiles, size)
        for size, *tile, _ in self._programs:
            edges = tuple(tile)
            other = self._plan_tiles(tiles.image, edges=edges, fill=True)
            fits = other.shape == edges and size <= self._choose_batch_size(other)
            if fits and count_pixels(other, size) < best_pixels:
                best, best_pixels = (other, size), count_pixels(other, size)
        return best

    def _choose_batch_size(self, tiles: Tiles) -> int:
        """Returns the number of tiles at a time, a multiple of the number of devices.

        It is at most the number of tiles of one image. A larger batch would change the
        rounding of XLA, and the result for an image must not depend on the number of
        images.
        """
        count = self.devices.count
        most = self._batch or self._max_pixels // math.prod(tiles.shape) * count
        return max(-(-min(most, tiles.count) // count), 1) * count

    def _measure_memory(self, member: Any, tiles: Tiles, size: int) -> int:
        """Returns the bytes that the compiled program needs on one device."""
        shape = (size, *tiles.shape, self._channels)
        return self._compile(member, shape).memory

    def _compile(self, member: Any, shape: tuple[int, ...]) -> Program:
        """Returns the compiled network for batches of a shape."""
        if shape not in self._programs:
            self._programs[shape] = self._runtime.compile(member, shape)
        return self._programs[shape]

    def _run_batches(
        self, predict: Callable, inputs: Iterator[np.ndarray], size: int
    ) -> Iterator[Results]:
        """Yields the results for each tile; reads a batch while another is computed."""
        pending: collections.deque[tuple[int, Any]] = collections.deque()
        while group := list(itertools.islice(inputs, size)):
            padding = [group[0]] * (size - len(group))
            batch = self.devices.put_rows(np.stack(group + padding))
            pending.append((len(group), predict(batch)))
            if len(pending) > 1:
                yield from _unstack(*pending.popleft())
        for count, results in pending:
            yield from _unstack(count, results)

    def _predict_batch(
        self,
        batch: jax.Array,
        members: Sequence[Any],
        views: tuple[View, ...],
        request: Request,
        *,
        blend: bool,
    ) -> dict[str, jax.Array]:
        """Returns the results for a batch of tiles, on the devices.

        If tiles are blended, their predictions are not complete yet.
        """
        groups = [[(member, view) for view in views] for member in members]
        if len(groups) == 1:  # the views of a single run are its members
            groups = [[pair] for pair in groups[0]]
        total: Any = 0, 0
        scales = self._scales or [None] * len(groups)
        for group, scale in zip(groups, scales, strict=True):
            predictions: Any = 0
            for member, view in group:
                image = self._apply_view(batch, view)
                program = self._compile(member, image.shape)
                output = program.run(member, image)
                predictions = predictions + self._predict_view(output, view)
            total = self._add(total, predictions, len(group), scale)
        results = self._finish(total, len(groups), request, blend)
        return results | ({"output": output} if request.output else {})

    def _activate(self, output: jax.Array, view: View) -> jax.Array:
        """Returns the activated output for a view, turned back to the image."""
        prediction = self.task.activate(output)
        return invert_view(prediction, view, vectors=self.task.vectors)

    def _add_member(
        self, total: Any, predictions: jax.Array, views: int, scale: jax.Array | None
    ) -> Any:
        """Adds the mean of a member over its views, and the entropy of that mean."""
        mean = predictions / views
        if scale is not None:
            offset, width = scale.reshape(2, *(1,) * (mean.ndim - 1), -1)
            mean = mean * width + offset
        entropy = jnp.zeros(mean.shape[:-1])
        if self.task.entropy:
            prediction = self.task.complete(mean)
            entropy = self.task.entropy(self.task.probabilities(prediction))
        return total[0] + mean, total[1] + entropy

    def _collect_results(
        self, total: Any, members: int, request: Request, blend: bool
    ) -> dict[str, jax.Array]:
        """Returns the means over the members, and the label."""
        mean = total[0] / members
        mean = mean if blend else self.task.complete(mean)
        results = self._decide(mean)
        results[FINITE] = jnp.isfinite(mean).all(axis=tuple(range(1, mean.ndim)))
        if request.prediction:
            results["prediction"] = mean
        if request.member_entropy:
            results["member_entropy"] = total[1] / members
        return results

    def _decide(self, prediction: Any) -> dict[str, Any]:
        """Returns the label of a prediction; nothing if the task has no classes."""
        return {"label": self.task.decide(prediction)} if self.task.decide else {}


def compute_entropy(task: Task, probabilities: np.ndarray) -> np.ndarray:
    """Returns the entropy in nats, `f32[*S]`, of probabilities `f32[*S, K]`.

    It is computed on the host, row by row: there may be no memory for copies of a whole
    volume.
    """
    entropy = np.empty(probabilities.shape[:-1], np.float32)
    for i, row in enumerate(probabilities):
        entropy[i] = task.entropy(row)
    return entropy


def _unstack(count: int, results: dict[str, jax.Array]) -> Iterator[Results]:
    """Yields the results for the first `count` tiles of a batch, on the host."""
    host = jax.device_get(results)
    finite = host.pop(FINITE)
    for i in range(count):
        if not finite[i]:
            raise NonFinitePredictionError(
                "the prediction is not finite: numbers in the network overflow; train "
                "again with a lower config.optimizer.learning_rate or with "
                "config.optimizer.clip (or the checkpoint is damaged, if an earlier "
                "version wrote it)"
            )
        yield {name: array[i] for name, array in host.items()}


def _report_progress(
    results: Iterator[Results], total: int, on_progress: Callable[[int, int], None]
) -> Iterator[Results]:
    for done, result in enumerate(results, 1):
        on_progress(done, total)
        yield result


def _join_rows(rows: Iterator[Results], height: int) -> Results:
    """Returns the results for one image, from those for its rows."""
    parts: list[Results] = []
    while sum(len(next(iter(part.values()))) for part in parts) < height:
        parts.append(next(rows))
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
