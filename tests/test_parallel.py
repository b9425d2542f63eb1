"""Placement of arrays on the devices; tests/methods compares the training steps."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax import parallel
from unet_jax.errors import UserError


def host_batch(size=8, shape=(32, 32)):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(size, *shape, 1)).astype("f4")
    return {
        "image": image,
        "label": (image[..., 0] > 0).astype("i4"),
        "weight": rng.uniform(0.5, 1.5, size=(size, *shape)).astype("f4"),
        "seed": np.arange(size, dtype="u4") * 7,
    }


def test_a_mesh_splits_the_image_over_its_devices():
    layout = parallel.mesh(space=4)
    image = layout.put_batch(host_batch())["image"]
    assert {s.data.shape for s in image.addressable_shards} == {(4, 8, 32, 1)}
    assert layout.replicas == 2


def test_pmap_puts_a_state_without_a_device_axis():
    layout = parallel.pmap()
    state = layout.put_state({"w": jnp.ones((3, 2))})
    assert state["w"].shape == (3, 2)
    assert state["w"].is_fully_replicated


def test_space_must_divide_the_number_of_devices():
    with pytest.raises(
        UserError, match=r"space=3 must divide .* 8; JAX_NUM_CPU_DEVICES=3"
    ):
        parallel.mesh(space=3)


@pytest.mark.parametrize(
    ("environment", "distributed"),
    [
        ({"TPU_SKIP_MDS_QUERY": "1"}, False),
        ({"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_SKIP_MDS_QUERY": "1", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"TPU_SKIP_MDS_QUERY": "1", "SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"TPU_SKIP_MDS_QUERY": "1", "OMPI_COMM_WORLD_SIZE": "2"}, True),
    ],
)
def test_a_launcher_of_several_processes_is_recognised(environment, distributed):
    assert parallel.is_distributed(environment) == distributed


def test_a_tpu_vm_is_taken_for_one_of_several(monkeypatch):
    monkeypatch.setattr(parallel, "find_spec", lambda name: name == "libtpu")
    assert parallel.is_distributed({})


def test_an_incomplete_description_of_the_processes_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(UserError, match="JAX_PROCESS_ID must be a whole number"):
        parallel.connect_processes()


def test_local_devices_share_rows_and_have_copies_of_a_tree():
    devices = parallel.local_devices()
    assert devices.count == 8
    rows = devices.put_rows(np.zeros((16, 3)))
    assert {s.data.shape for s in rows.addressable_shards} == {(2, 3)}
    state = devices.put_state(parallel.pmap().put_state({"w": jnp.ones((3, 2))}))
    assert state["w"].is_fully_replicated
    assert devices.abstract(state)["w"].sharding == state["w"].sharding
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < devices.read_free_memory() <= physical // 8
