"""Layouts: the placement of arrays on devices, and the compiled training step.

Two layouts run the same pure step. `pmap` gives each device its share of the batch; the
step averages over a named axis. `mesh` arranges the devices as (data, space): the step
sees global arrays, and several devices can hold one image, because XLA adds the
exchange of halos.
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

from unet_jax.arrays import SPACE, Batch
from unet_jax.errors import UserError
from unet_jax.specs import Count

__all__ = ["mesh", "pmap"]

AXIS = "replica"


class Layout(NamedTuple):
    """The functions of training that depend on the devices.

    Attributes:
      axis_name: the axis to average over inside a step; None if arrays are global.
      replicas: the number of parts of the batch axis, over all processes.
      space: the number of parts of the first spatial axis.
      put_state: copies a state (any tree) to every device.
      make_global: returns a state as arrays that span all processes, which a checkpoint
        needs.
      put_batch: places this process's rows of a batch, a dict of host arrays.
      compile_train: compiles `step(state, batch, key, axis_name) -> (state, scalars)`.
        The buffers of the state argument are donated.
      abstract: returns the shapes of a state with the sharding of `put_state`.
    """

    axis_name: str | None
    replicas: int
    space: int
    put_state: Callable[[Any], Any]
    make_global: Callable[[Any], Any]
    put_batch: Callable[[Batch], Batch]
    compile_train: Callable[[Callable], Callable]
    abstract: Callable[[Any], Any]


# Environment variables by which a process sees that it is one of several.
TASK_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
COORDINATOR = "JAX_COORDINATOR_ADDRESS"
LAUNCHER_VARIABLES = (*TASK_COUNTS, COORDINATOR)


def stay_on_cpu() -> None:
    """Leaves the accelerators to other processes, which this one starts."""
    jax.config.update("jax_platforms", "cpu")


def connect_processes() -> None:
    """Connects this process with the others of the run, if there are others.

    The processes of TPU pods, SLURM steps and Open MPI are recognised. Elsewhere, set
    these environment variables in every process:
    JAX_COORDINATOR_ADDRESS=host:port JAX_NUM_PROCESSES=n JAX_PROCESS_ID=i.

    Raises:
      UserError: the first of the three is set, and another is not a whole number.
    """
    if COORDINATOR in os.environ:
        count = _read_integer("JAX_NUM_PROCESSES")
        index = _read_integer("JAX_PROCESS_ID")
        jax.distributed.initialize(num_processes=count, process_id=index)
    elif is_distributed(os.environ):
        jax.distributed.initialize()  # JAX asks the cluster for the three values


def is_distributed(environ: Mapping[str, str]) -> bool:
    """Returns True if a launcher has started this process as one of several."""
    return (
        any(int(environ.get(name, "1")) > 1 for name in TASK_COUNTS)
        or "," in environ.get("TPU_WORKER_HOSTNAMES", "")
        # Every TPU VM, even a single one, asks Google's metadata server for the other
        # processes. JAX sets the variable on machines without TPUs, and some TPU hosts
        # set it to prevent this request.
        or (find_spec("libtpu") is not None and "TPU_SKIP_MDS_QUERY" not in environ)
    )


def _read_integer(name: str) -> int:
    """Returns the value of an environment variable."""
    value = os.environ.get(name, "")
    if not value.isdecimal():
        raise UserError(
            f"{name} must be a whole number, not {value!r}; set all three of "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        )
    return int(value)


def pmap() -> Layout:
    """Returns the layout in which each device has a share of the batch."""
    devices = jax.local_device_count()
    copies = NamedSharding(_make_mesh((jax.device_count(),), (AXIS,)), PartitionSpec())

    def make_global(state: Any) -> Any:
        # with several processes, a pmap returns a local copy in each of them
        return state if jax.process_count() == 1 else _replicate(copies, state)

    def put_batch(batch: Batch) -> Batch:
        # pmap copies row i to device i
        return {
            name: rows.reshape(devices, len(rows) // devices, *rows.shape[1:])
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
        put_state=functools.partial(_replicate, copies),
        make_global=make_global,
        put_batch=put_batch,
        compile_train=compile_train,
        abstract=functools.partial(_add_sharding, copies),
    )


def mesh(*, space: Count = 1) -> Layout:
    """Returns the layout in which groups of devices share the images of a batch.

    The devices form a grid (data, space). The batch axis is split over `data`, and the
    first spatial axis over `space`.

    Args:
      space: the number of devices that share an image.

    Raises:
      UserError: `space` does not divide the number of devices of a process.
    """
    devices, local = jax.device_count(), jax.local_device_count()
    if local % space:
        cpu = jax.default_backend() == "cpu"
        more = f"; JAX_NUM_CPU_DEVICES={space} makes {space} of a CPU" if cpu else ""
        raise UserError(
            f"space={space} must divide the number of devices of a process, "
            f"{local}{more}"
        )
    grid = _make_mesh((devices // space, space), ("data", SPACE))
    copies = NamedSharding(grid, PartitionSpec())

    def put_batch(batch: Batch) -> Batch:
        # an array [B, H, ...] can only be split in space if `space` divides H
        def place(array: np.ndarray) -> jax.Array:
            split = array.ndim > 1 and array.shape[1] % space == 0
            spec = PartitionSpec("data", SPACE) if split else PartitionSpec("data")
            sharding = NamedSharding(grid, spec)
            return jax.make_array_from_process_local_data(sharding, array)

        return {name: place(array) for name, array in batch.items()}

    def compile_train(step: Callable) -> Callable:
        @functools.wraps(step)
        def run(*args: Any) -> Any:
            # convolutions ask whether the mesh divides images
            with jax.sharding.use_abstract_mesh(grid.abstract_mesh):
                return step(*args)

        return jax.jit(run, donate_argnums=0, out_shardings=copies)

    return Layout(
        axis_name=None,
        replicas=devices // space,
        space=space,
        put_state=functools.partial(_replicate, copies),
        make_global=lambda state: state,
        put_batch=put_batch,
        compile_train=compile_train,
        abstract=functools.partial(_add_sharding, copies),
    )


class LocalDevices(NamedTuple):
    """The devices of this process, used for inference without collectives.

    Attributes:
      count: the number of devices.
      batch_sharding: the sharding of a batch, with a share of the rows on each device.
      put_state: copies a tree to every device.
      abstract: returns the shapes of a tree with the sharding of `put_state`.
      put_rows: places an array; `count` must divide the number of its rows.
      read_free_memory: returns the free bytes of the fullest device.
    """

    count: int
    batch_sharding: NamedSharding
    put_state: Callable[[Any], Any]
    abstract: Callable[[Any], Any]
    put_rows: Callable[[np.ndarray | jax.Array], jax.Array]
    read_free_memory: Callable[[], int]


def local_devices() -> LocalDevices:
    """Returns the devices of this process."""
    devices = jax.local_devices()
    grid = Mesh(np.asarray(devices), ("rows",), axis_types=(AxisType.Auto,))
    copies = NamedSharding(grid, PartitionSpec())
    rows = NamedSharding(grid, PartitionSpec("rows"))

    def put_state(tree: Any) -> Any:
        def place(array: jax.Array) -> jax.Array:
            remote = isinstance(array, jax.Array) and not array.is_fully_addressable
            return jax.device_put(
                array.addressable_data(0) if remote else array, copies
            )

        return jax.tree.map(place, tree)

    return LocalDevices(
        count=len(devices),
        batch_sharding=rows,
        put_state=put_state,
        abstract=functools.partial(_add_sharding, copies),
        put_rows=functools.partial(jax.device_put, device=rows),
        read_free_memory=lambda: min(map(_read_free_memory, devices)),
    )


def _read_free_memory(device: Any) -> int:
    """Returns the free bytes of a device; CPU devices share those of the machine."""
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


def _make_mesh(shape: tuple[int, ...], names: tuple[str, ...]) -> Mesh:
    """Returns a mesh in which the devices of each process are neighbours."""
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    devices = np.asarray(devices[: math.prod(shape)]).reshape(shape)
    return Mesh(devices, names, axis_types=(AxisType.Auto,) * len(names))


def _replicate(sharding: NamedSharding, tree: Any) -> Any:
    """Returns a tree of host arrays as device arrays, copied to every device."""

    def place(array: jax.Array) -> jax.Array:
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda i: host[i])

    return jax.tree.map(place, tree)


def _add_sharding(sharding: NamedSharding, tree: Any) -> Any:
    """Returns the shapes of a tree of arrays with a sharding."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )
