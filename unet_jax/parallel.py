"""Where arrays live: one pure step, two layouts.

A layout places a state and a batch on the devices and compiles a step for them.
`pmap` gives every device its share of the batch and averages under a named axis.
`mesh` lays the devices out as (data, space): the step sees global arrays, and XLA
writes the exchange of halos that lets several devices hold one image.
"""

import functools
import math
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from unet_jax.errors import UserError
from unet_jax.specs import Count

__all__ = ["mesh", "pmap"]

AXIS = "replica"


class Layout(NamedTuple):
    """Functions that know the devices, so that nothing else has to.

    Attributes:
      axis_name: the axis to average over inside a step; None where arrays are global.
      replicas: parts that the batch axis is cut into, over all processes.
      space: parts that the first spatial axis is cut into.
      put_state: copies a state (any tree) to every device.
      portable: the state as a checkpoint wants it, arrays that span all processes.
      put_batch: places this process's rows of a batch, a dict of host arrays.
      compile_train: `step(state, batch, key, axis_name) -> (state, scalars)`; the
        state that goes in is donated.
      abstract: shapes of a state with the sharding that `put_state` gives it.
    """

    axis_name: str | None
    replicas: int
    space: int
    put_state: Callable[[Any], Any]
    portable: Callable[[Any], Any]
    put_batch: Callable[[dict[str, np.ndarray]], dict[str, jax.Array]]
    compile_train: Callable[[Callable], Callable]
    abstract: Callable[[Any], Any]


def join() -> None:
    """Joins the processes of a pod or cluster, where this is one of several.

    TPU pods, SLURM steps and Open MPI are recognised. Elsewhere, name the run in every
    process: JAX_COORDINATOR_ADDRESS=host:port JAX_NUM_PROCESSES=n JAX_PROCESS_ID=i.

    Raises:
      UserError: only some of the three are set, or one is no number.
    """
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        count, index = _number("JAX_NUM_PROCESSES"), _number("JAX_PROCESS_ID")
        jax.distributed.initialize(num_processes=count, process_id=index)
    elif is_member(os.environ):
        jax.distributed.initialize()  # which asks the cluster for the three


def is_member(environ: Mapping[str, str]) -> bool:
    """Whether a launcher has started this process as one of several."""
    tasks = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    return (
        any(int(environ.get(name, "1")) > 1 for name in tasks)
        or "," in environ.get("TPU_WORKER_HOSTNAMES", "")
        # A TPU VM, even one alone, asks Google's metadata server who else there is. JAX
        # sets the variable where it finds no chips, some hosts set it where they have.
        or (find_spec("libtpu") is not None and "TPU_SKIP_MDS_QUERY" not in environ)
    )


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdecimal():
        raise UserError(
            f"{name} must be a whole number, not {value!r}: JAX_COORDINATOR_ADDRESS, "
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID belong together"
        )
    return int(value)


def pmap() -> Layout:
    """Data parallelism over all devices, one share of the batch each."""
    here = jax.local_device_count()
    copies = NamedSharding(_mesh((jax.device_count(),), (AXIS,)), PartitionSpec())

    def portable(state: Any) -> Any:
        # what a pmap of several processes returns is each one's own copy
        return state if jax.process_count() == 1 else _copy(copies, state)

    def put_batch(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        # pmap itself copies row i to device i
        return {
            name: rows.reshape(here, len(rows) // here, *rows.shape[1:])
            for name, rows in batch.items()
        }

    def compile_train(step: Callable) -> Callable:
        return jax.pmap(
            functools.partial(step, axis_name=AXIS),
            axis_name=AXIS,
            in_axes=(None, 0, None),
            out_axes=None,
            donate_argnums=0,
        )

    return Layout(
        axis_name=AXIS,
        replicas=jax.device_count(),
        space=1,
        put_state=functools.partial(_copy, copies),
        portable=portable,
        put_batch=put_batch,
        compile_train=compile_train,
        abstract=functools.partial(_abstract, copies),
    )


def mesh(*, space: Count = 1) -> Layout:
    """Devices as (data, space): the batch is cut over one, every image over the other.

    Raises:
      UserError: the devices of a process cannot be cut into groups of `space`.
    """
    devices, here = jax.device_count(), jax.local_device_count()
    if here % space:
        cpu = jax.default_backend() == "cpu"
        more = f"; JAX_NUM_CPU_DEVICES={space} makes as many of a CPU" if cpu else ""
        raise UserError(
            f"space={space} must divide the devices of a process, {here}{more}"
        )
    grid = _mesh((devices // space, space), ("data", "space"))
    copies = NamedSharding(grid, PartitionSpec())

    def put_batch(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        # only an array with an axis [B, H, ...] that divides can be cut in space
        def place(array: np.ndarray) -> jax.Array:
            cut = array.ndim > 1 and array.shape[1] % space == 0
            spec = PartitionSpec("data", "space") if cut else PartitionSpec("data")
            sharding = NamedSharding(grid, spec)
            return jax.make_array_from_process_local_data(sharding, array)

        return {name: place(array) for name, array in batch.items()}

    def compile_train(step: Callable) -> Callable:
        return jax.jit(step, donate_argnums=0, out_shardings=copies)

    return Layout(
        axis_name=None,
        replicas=devices // space,
        space=space,
        put_state=functools.partial(_copy, copies),
        portable=lambda state: state,
        put_batch=put_batch,
        compile_train=compile_train,
        abstract=functools.partial(_abstract, copies),
    )


class Here(NamedTuple):
    """The devices of this process alone, which answer for images without the others.

    Attributes:
      count: how many there are.
      rows: the sharding of a batch, a share on each of them.
      put_state: copies a tree to every one of them.
      abstract: shapes of a tree with the sharding that `put_state` gives it.
      put_rows: places a host array, whose rows they can share.
      free: bytes that one of them, the fullest, has left.
    """

    count: int
    rows: NamedSharding
    put_state: Callable[[Any], Any]
    abstract: Callable[[Any], Any]
    put_rows: Callable[[np.ndarray], jax.Array]
    free: Callable[[], int]


def here() -> Here:
    """All devices of this process."""
    devices = jax.local_devices()
    grid = Mesh(np.asarray(devices), ("rows",), axis_types=(AxisType.Auto,))
    copies = NamedSharding(grid, PartitionSpec())
    rows = NamedSharding(grid, PartitionSpec("rows"))

    def put_state(tree: Any) -> Any:
        def place(array: jax.Array) -> jax.Array:
            spread = isinstance(array, jax.Array) and not array.is_fully_addressable
            return jax.device_put(
                array.addressable_data(0) if spread else array, copies
            )

        return jax.tree.map(place, tree)

    return Here(
        count=len(devices),
        rows=rows,
        put_state=put_state,
        abstract=functools.partial(_abstract, copies),
        put_rows=functools.partial(jax.device_put, device=rows),
        free=lambda: min(map(_free_memory, devices)),
    )


def _free_memory(device: jax.Device) -> int:
    """Bytes that a device has left; CPU devices share what the machine has."""
    if stats := device.memory_stats():
        return stats["bytes_limit"] - stats["bytes_in_use"]
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    memory = Path("/proc/meminfo")
    if memory.exists():  # Linux
        line = next(x for x in memory.read_text().splitlines() if "MemAvailable" in x)
        free = int(line.split()[1]) * 1024
    group = Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and limit.read_text().strip().isdecimal():  # a container
        stat = dict(x.split() for x in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(stat["file"])
        free = min(free, int(limit.read_text()) - used)
    return max(free, 0) // jax.local_device_count()


def _mesh(shape: tuple[int, ...], names: tuple[str, ...]) -> Mesh:
    # a pod may number its devices otherwise; rows of one process must lie together
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    devices = np.asarray(devices[: math.prod(shape)]).reshape(shape)
    return Mesh(devices, names, axis_types=(AxisType.Auto,) * len(names))


def _copy(sharding: NamedSharding, tree: Any) -> Any:
    def place(array: jax.Array) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])

    return jax.tree.map(place, tree)


def _abstract(sharding: NamedSharding, tree: Any) -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )
