"""One step, four layouts, one result: jit, pmap on 8 devices, mesh(1) and mesh(4)."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unet_jax import augment, losses, parallel, step
from unet_jax.errors import UserError
from unet_jax.models import UNet

CHAIN = augment.chain(
    [
        (1.0, augment.flip),
        (0.5, functools.partial(augment.elastic, sigma=2.0)),
        (1.0, augment.noise),
    ]
)
LAYOUTS = {
    "pmap": parallel.pmap,
    "mesh(1)": parallel.mesh,
    "mesh(4)": functools.partial(parallel.mesh, space=4),
}


def host_batch(size=8, shape=(32, 32)):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(size, *shape, 1)).astype("f4")
    return {
        "image": image,
        "label": (image[..., 0] > 0).astype("i4"),
        "weight": rng.uniform(0.5, 1.5, size=(size, *shape)).astype("f4"),
        "seed": np.arange(size, dtype="u4") * 7,
    }


def two_steps(layout, model, tx, shape):
    """Two training steps under a layout; None is plain jit."""
    model = model.clone(axis_name=layout.axis_name if layout else None)
    train = functools.partial(
        step.train_step,
        model=model,
        loss=losses.cross_entropy,
        augment=CHAIN,
        tx=tx,
        ema=0.9,
    )
    batch = host_batch(shape=shape)
    init = functools.partial(step.init, model=model, tx=tx, ema=0.9)
    state = jax.jit(init)(jax.random.key(0), jnp.zeros((1, *shape, 1)))
    if layout is None:
        train, put = jax.jit(train), lambda batch: batch
    else:
        train, put = layout.compile_train(train), layout.put_batch
        state = layout.put_state(state)
    for _ in range(2):
        state, scalars = train(state, put(batch), jax.random.key(3))
    return jax.device_get((state, scalars))


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"padding": "SAME", "norm": "batch", "dropout": 0.3}, (16, 16)),
        ({"padding": "VALID", "norm": "none", "dropout": 0.3}, (28, 28)),
    ],
    ids=["same", "valid"],
)
def test_layouts_agree(options, shape):
    model, tx = UNet((4, 8), **options), optax.adam(1e-3)
    state, scalars = two_steps(None, model, tx, shape)
    for name, make in LAYOUTS.items():
        other, numbers = two_steps(make(), model, tx, shape)
        for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(state), strict=True):
            assert a.shape == b.shape, name
            np.testing.assert_allclose(a, b, atol=2e-5, err_msg=name)
        for key in scalars:
            np.testing.assert_allclose(numbers[key], scalars[key], rtol=1e-4)


def test_a_mesh_cuts_the_image_over_its_devices():
    layout = parallel.mesh(space=4)
    image = layout.put_batch(host_batch())["image"]
    assert {s.data.shape for s in image.addressable_shards} == {(4, 8, 32, 1)}
    assert layout.replicas == 2


def test_pmap_saves_and_restores_without_a_device_axis():
    layout = parallel.pmap()
    state = layout.put_state({"w": jnp.ones((3, 2))})
    assert state["w"].shape == (3, 2)
    assert state["w"].is_fully_replicated


def test_space_must_divide_the_devices():
    with pytest.raises(
        UserError, match=r"space=3 must divide .* 8; JAX_NUM_CPU_DEVICES=3"
    ):
        parallel.mesh(space=3)


@pytest.mark.parametrize(
    ("environment", "member"),
    [
        ({"TPU_SKIP_MDS_QUERY": "1"}, False),
        ({"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_SKIP_MDS_QUERY": "1", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"TPU_SKIP_MDS_QUERY": "1", "SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"TPU_SKIP_MDS_QUERY": "1", "OMPI_COMM_WORLD_SIZE": "2"}, True),
    ],
)
def test_a_launcher_that_starts_several_processes_is_noticed(environment, member):
    assert parallel.is_member(environment) == member


def test_a_tpu_vm_asks_who_else_there_is(monkeypatch):
    monkeypatch.setattr(parallel, "find_spec", lambda name: name == "libtpu")
    assert parallel.is_member({})


def test_half_a_description_of_a_run_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(UserError, match="JAX_PROCESS_ID must be a whole number"):
        parallel.join()


def test_the_devices_here_share_rows_and_have_copies():
    here = parallel.here()
    assert here.count == 8
    rows = here.put_rows(np.zeros((16, 3)))
    assert {s.data.shape for s in rows.addressable_shards} == {(2, 3)}
    state = here.put_state(parallel.pmap().put_state({"w": jnp.ones((3, 2))}))
    assert state["w"].is_fully_replicated
    assert here.abstract(state)["w"].sharding == state["w"].sharding
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < here.free() <= physical // 8
