"""Tiled inference with one network or an ensemble, on the devices of this process.

Images are cut into tiles (tiling.py), tiles are grouped into batches of one shape, and
each batch goes through every member of the ensemble in every view. The predictions are
averaged on the devices; results are read while the next batch is computed.
"""

import collections
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unet_jax import tiling
from unet_jax.errors import UserError
from unet_jax.logs import say
from unet_jax.parallel import Here
from unet_jax.tasks import Task
from unet_jax.text import dimensions
from unet_jax.tiling import Answer, Read, Tiles
from unet_jax.views import View, apply_view, invert_view

SHARE = 0.5  # of the free memory that one program may take
PROGRAMS = 16  # from which on an image of yet another size goes through one of them

DeviceError = jax.errors.JaxRuntimeError  # out of memory, or else: see `shrink`


class Want(NamedTuple):
    """The results that a caller wants besides the label.

    Attributes:
      prediction: `f32[*S, channels]`, the mean over members and views; a task without
        classes has no label, and always gives it.
      doubt: `f32[*S]`, the mean of the members' entropies, in nats. A member is a run,
        with its mean over the views; where there is one run, each view is a member.
      output: `f32[*S, channels]`, the network's own, of the last member in the last
        view.
    """

    prediction: bool = False
    doubt: bool = False
    output: bool = False


LABEL = Want()


class Inference:
    """Runs a network over images; its compiled programs are kept, by shape.

    Args:
      model: a network, with `geometry(axes)`.
      task: what its output means.
      channels: C of every image.
      here: the devices.
      edges: the largest size of a tile along each axis; () leaves it to the memory.
      batch: tiles on all devices at a time; 0 leaves it to the memory.

    Raises:
      UserError: a tile of these edges would answer for nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        task: Task,
        channels: int,
        here: Here,
        edges: tuple[int, ...] = (),
        batch: int = 0,
    ) -> None:
        self._geometry = functools.cache(model.geometry)
        if edges:
            tiling.check_edges(edges, self._geometry(len(edges)))
        self.here = here
        self.task = task
        self._channels = channels
        self._named = self._edges, self._batch = edges, batch
        self._pixels = 0  # that a device takes at a time; 0: not yet known
        self._taken = 0  # pixels that a device takes now
        self._least: tuple[int, ...] = ()  # the tile below which there is none
        self._told = False  # that tiles are blended
        self._programs: dict[tuple[int, ...], Any] = {}
        place = functools.partial(jax.jit, out_shardings=here.rows)
        self._forward = place(functools.partial(model.apply, train=False))
        self._apply_view = place(apply_view, static_argnums=1)
        self._predict = place(self._prediction, static_argnums=1)
        self._add = place(self._added, static_argnums=2)
        self._finish = place(self._results, static_argnums=(1, 2))

    def rows(
        self,
        members: Sequence[Any],
        shape: tuple[int, ...],
        images: Sequence[Read],
        *,
        views: tuple[View, ...] = (View(),),
        want: Want = LABEL,
        passed: Callable[[int, int], None] = lambda done, of: None,
    ) -> Iterator[Answer]:
        """Predicts images of one shape, some rows after the other.

        Args:
          members: the variables of each, as `here.put_state` placed them.
          shape: the spatial shape of every image.
          images: what reads a box of each, normalised, `f32[*box, C]`.
          views: how they are looked at.
          want: the results.
          passed: called with how many tiles are done, and of how many.

        Yields:
          The arrays for consecutive rows of the first image, then of the next, by name:
          `label`, `u8[*S]` or `u8[*S, K]` (`i32` with more than 256 classes), if the
          task has classes, and what is wanted.

        Raises:
          DeviceError: to be shown to `shrink`, and then tried again.
          UserError: there is not the memory for the least tile.
        """
        tiles, size = self._settle(members, shape)
        needed = tiles.blend or self.task.decide is None
        asked = want._replace(prediction=want.prediction or needed)
        cuts = (tiling.cut(tiles, tile, read) for read in images for tile in tiles)
        answers = self._stream(
            lambda batch: self._predict_tiles(members, batch, views, asked), cuts, size
        )
        answers = _counting(answers, len(images) * tiles.count, passed)
        if not tiles.blend:
            for _ in images:
                yield from tiling.assemble(tiles, answers)
            return
        self._tell_of_blending()
        answers = map(_without_label, answers)  # labels have no mean
        for _ in images:
            for rows in tiling.assemble(tiles, answers):
                yield rows | self._decided(rows["prediction"])

    def whole(
        self,
        members: Sequence[Any],
        shape: tuple[int, ...],
        images: Sequence[Read],
        **how: Any,
    ) -> Iterator[Answer]:
        """The same with the rows of each image put together, one image at a time."""
        done = 0
        while done < len(images):
            rows = self.rows(members, shape, images[done:], **how)
            try:
                while done < len(images):
                    yield _collect(rows, shape[0])
                    done += 1
            except DeviceError as error:
                self.shrink(error)

    def shrink(self, error: DeviceError | None = None) -> None:
        """Takes fewer pixels at a time from now on, and says so.

        Raises:
          DeviceError: the error, if it is about something else.
          UserError: there is nothing left to take less of.
        """
        if error and "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        self._programs.clear()
        if self._least:
            self._pixels, (self._edges, self._batch) = 0, self._named  # for the next
            raise UserError(
                f"a tile of {dimensions(self._least)} pixels, the least that "
                "the network can take, needs more memory than there is"
            )
        self._pixels = self._taken // 2
        self._edges = tuple(round(0.7 * edge) for edge in self._edges)
        self._batch = -(-self._batch // 2)
        say(f"memory is short: {self._taken:,} pixels at a time are too many")

    def _tell_of_blending(self) -> None:
        if not self._told:
            say(
                "the norm takes its statistics from space, so no tiles can equal the "
                "whole image: they overlap by half and are blended"
            )
        self._told = True

    def _settle(
        self, members: Sequence[Any], shape: tuple[int, ...]
    ) -> tuple[Tiles, int]:
        """The tiles of an image and how many go at a time, so that they fit."""
        # Smaller tiles, of a deep network of volumes, would be nothing but context.
        geometry = self._geometry(len(shape))
        roomy = math.prod(6 * context for context in geometry.context)
        self._pixels = self._pixels or max(tiling.LIMIT, roomy)
        while True:
            tiles = self._plan(shape, pixels=self._pixels, edges=self._edges)
            size = self._size(tiles)
            exact = geometry.halo is not None  # whatever the tile's size
            named = bool(self._edges and self._batch)
            if exact and not named and len(self._programs) >= PROGRAMS:
                tiles, size = self._reused(tiles, size)
            self._taken = math.prod(tiles.shape) * size // self.here.count
            last = tiles == self._plan(shape, pixels=1) and size == self.here.count
            self._least = tiles.shape if last else ()
            if named:  # as it was asked for
                return tiles, size
            if self._needs(members[0], tiles, size) <= SHARE * self.here.free():
                return tiles, size
            self.shrink()

    def _plan(self, shape: tuple[int, ...], **size: Any) -> Tiles:
        return tiling.plan(shape, self._geometry(len(shape)), **size)

    def _reused(self, tiles: Tiles, size: int) -> tuple[Tiles, int]:
        """The tiles of a program that is there, unless they are twice the work.

        Compiling takes seconds; folders where every image has a size of its own exist.
        What is said of an image then depends on the others, by how it is rounded.
        """

        def work(plan: tuple[Tiles, int]) -> int:
            tiles, size = plan
            batches = -(-tiles.count // size)
            return batches * size * math.prod(tiles.shape)

        best, best_work = (tiles, size), 2 * work((tiles, size))
        for size, *tile, _ in self._programs:
            edges = tuple(tile)
            other = self._plan(tiles.image, edges=edges, fill=True)
            fits = other.shape == edges and size <= self._size(other)
            if fits and work((other, size)) < best_work:
                best, best_work = (other, size), work((other, size))
        return best

    def _size(self, tiles: Tiles) -> int:
        """Tiles at a time, which all devices share equally.

        No more than one image has, however many images there are: XLA rounds otherwise
        where a device has more rows, and an image is to be the same in any company.
        """
        devices = self.here.count
        most = self._batch or self._pixels // math.prod(tiles.shape) * devices
        return max(-(-min(most, tiles.count) // devices), 1) * devices

    def _needs(self, variables: Any, tiles: Tiles, size: int) -> int:
        """Bytes that the program takes on one device."""
        shape = (size, *tiles.shape, self._channels)
        memory = self._program(variables, shape).memory_analysis()
        if memory is None:  # some backends cannot say
            return 0
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    def _program(self, variables: Any, shape: tuple[int, ...]) -> Any:
        if shape not in self._programs:
            batch = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=self.here.rows)
            self._programs[shape] = self._forward.lower(variables, batch).compile()
        return self._programs[shape]

    def _stream(
        self, look: Callable, cuts: Iterator[np.ndarray], size: int
    ) -> Iterator[Answer]:
        """The answer to each tile; one batch is computed while the next is read."""
        waiting: collections.deque[tuple[int, Any]] = collections.deque()
        while group := list(itertools.islice(cuts, size)):
            spare = [group[0]] * (size - len(group))
            batch = self.here.put_rows(np.stack(group + spare))
            waiting.append((len(group), look(batch)))
            if len(waiting) > 1:
                yield from _unstack(*waiting.popleft())
        for count, answers in waiting:
            yield from _unstack(count, answers)

    def _predict_tiles(
        self,
        members: Sequence[Any],
        batch: jax.Array,
        views: tuple[View, ...],
        want: Want,
    ) -> dict[str, jax.Array]:
        asked = [[(variables, view) for view in views] for variables in members]
        if len(asked) == 1:  # the views of a single run disagree as members would
            asked = [[one] for one in asked[0]]
        total: Any = 0, 0
        for member in asked:
            predicted: Any = 0
            for variables, view in member:
                seen = self._apply_view(batch, view)
                output = self._program(variables, seen.shape)(variables, seen)
                predicted = predicted + self._predict(output, view)
            total = self._add(total, predicted, len(member))
        results = self._finish(total, len(asked), want)
        return results | ({"output": output} if want.output else {})

    def _prediction(self, output: jax.Array, view: View) -> jax.Array:
        """The prediction from one view, turned back."""
        prediction = self.task.activate(output)
        return invert_view(prediction, view, vectors=self.task.vectors)

    def _added(self, total: Any, predicted: jax.Array, views: int) -> Any:
        """Adds a member's mean over so many views, and its entropy."""
        mean = predicted / views
        doubt = jnp.zeros(mean.shape[:-1])
        if self.task.entropy:
            doubt = self.task.entropy(self.task.probabilities(mean))
        return total[0] + mean, total[1] + doubt

    def _results(self, total: Any, count: int, want: Want) -> dict[str, jax.Array]:
        mean = total[0] / count
        results = self._decided(mean)
        if want.prediction:
            results["prediction"] = mean
        if want.doubt:
            results["doubt"] = total[1] / count
        return results

    def _decided(self, prediction: Any) -> dict[str, Any]:
        """The label of a prediction on the device or on the host, if it has one."""
        return {"label": self.task.decide(prediction)} if self.task.decide else {}


def entropy(task: Task, probabilities: np.ndarray) -> np.ndarray:
    """Returns the entropy in nats, `f32[*S]`, of probabilities `f32[*S, K]`.

    It is computed on the host row by row: a volume leaves no memory for copies of it.
    """
    total = np.empty(probabilities.shape[:-1], np.float32)
    for i, row in enumerate(probabilities):
        total[i] = task.entropy(row)
    return total


def _without_label(answer: Answer) -> Answer:
    return {name: array for name, array in answer.items() if name != "label"}


def _unstack(count: int, answers: dict[str, jax.Array]) -> Iterator[Answer]:
    host = jax.device_get(answers)
    for i in range(count):
        yield {name: array[i] for name, array in host.items()}


def _counting(
    answers: Iterator[Answer], count: int, passed: Callable[[int, int], None]
) -> Iterator[Answer]:
    for done, answer in enumerate(answers, 1):
        passed(done, count)
        yield answer


def _collect(rows: Iterator[Answer], height: int) -> Answer:
    """The rows of one image, joined."""
    parts: list[Answer] = []
    while sum(len(next(iter(part.values()))) for part in parts) < height:
        parts.append(next(rows))
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
