import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from unet_jax.checkpoint import Checkpoints, load_newest_metadata, split_state
from unet_jax.errors import UserError

ABOUT = {"config": {}, "preprocessing": {}}
DEVICE = SingleDeviceSharding(jax.devices()[0])


def abstract_state(size):
    array = jax.ShapeDtypeStruct((size,), jnp.float32, sharding=DEVICE)
    return {"a": array, "b": (), "c": [array]}


def state(value):
    a, c = (jnp.full(3, x, jnp.float32) for x in (value, -value))
    return {"a": a, "b": (), "c": [c]}


def variables(state):
    return {"params": state["a"], "batch_stats": state["b"]}


def make_scores(score):
    return {} if score is None else {"val/dice": score, "val/iou": 1 - score}


def test_the_latest_two_and_the_best_are_kept(tmp_path):
    scores = {1: 0.1, 2: 0.9, 3: 0.5, 4: None, 5: 0.9, 6: None, 7: None}
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.latest is None
        with pytest.raises(UserError, match="holds no checkpoint"):
            _ = checkpoints.best
        for step, score in scores.items():
            checkpoints.save(
                step,
                state(step),
                variables,
                ABOUT | {"step": [step]},
                make_scores(score),
            )
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.latest == 7
        best = checkpoints.best
        assert best in (2, 5)
        assert kept == [best, 6, 7]
        np.testing.assert_array_equal(
            checkpoints.restore(best, abstract_state(3), variables)["a"], [best] * 3
        )
        assert checkpoints.load_metadata(best) == ABOUT | {"step": [best]}
    with Checkpoints(tmp_path, "val/iou") as checkpoints:
        assert checkpoints.best == best  # among those that were kept
    with (
        Checkpoints(tmp_path, "val/recall") as checkpoints,
        pytest.raises(UserError, match="has the score val/recall; put another"),
    ):
        _ = checkpoints.best


def test_an_undefined_score_is_the_worst(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        for step, score in ((1, 0.1), (2, None), (3, None)):
            checkpoints.save(step, state(step), variables, None, {"val/dice": score})
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.best == 1


def test_without_scores_the_newest_is_best(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, None, {})
        checkpoints.wait()
        assert checkpoints.best == 3


def test_a_damaged_file_is_one_line_of_error(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, None, {})
        checkpoints.wait()
        with pytest.raises(UserError, match=r"checkpoints/3 is damaged"):
            checkpoints.restore(
                3, abstract_state(4) | {"d": abstract_state(4)["a"]}, variables
            )
        for file in (tmp_path / "checkpoints/3/variables").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
        with pytest.raises(UserError, match=r"checkpoints/3 is damaged"):
            checkpoints.restore(3, abstract_state(3), variables)


def broken_json(checkpoint):
    (checkpoint / "_CHECKPOINT_METADATA").write_text("{")


def no_json(checkpoint):
    (checkpoint / "_CHECKPOINT_METADATA").unlink()


def other_json(checkpoint):
    (checkpoint / "_CHECKPOINT_METADATA").write_text("[]")


def without(*keys):
    def damage(checkpoint):
        path = checkpoint / "_CHECKPOINT_METADATA"
        data = inner = json.loads(path.read_text())
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        path.write_text(json.dumps(data))

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (broken_json, "is damaged; move it to another folder"),
        (no_json, "is damaged; move it to another folder"),
        (other_json, "is damaged; move it to another folder"),
        (without("custom_metadata"), "has no 'config' in its _CHECKPOINT_METADATA"),
        (without("custom_metadata", "config"), "has no 'config' in its"),
        (without("custom_metadata", "preprocessing"), "has no 'preprocessing' in its"),
    ],
)
def test_damaged_metadata_is_one_line_of_error(tmp_path, damage, words):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, ABOUT, {})
    damage(tmp_path / "checkpoints/3")
    with pytest.raises(UserError, match=f"^checkpoint .*checkpoints/3 {words}") as one:
        load_newest_metadata(tmp_path)
    with (
        pytest.raises(UserError, match=r"/checkpoints.* (damaged|has no)") as other,
        Checkpoints(tmp_path, "val/dice") as checkpoints,
    ):
        checkpoints.load_metadata(3)
    assert "\n" not in f"{one.value}{other.value}"


@pytest.mark.parametrize("lost", ["variables", "variables/_METADATA"])
def test_missing_variables_are_one_line_of_error(tmp_path, lost):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, ABOUT, {})
    path = tmp_path / "checkpoints/3" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with (
        Checkpoints(tmp_path, "val/dice") as checkpoints,
        pytest.raises(UserError, match=r"checkpoint .*checkpoints/3 is damaged"),
    ):
        checkpoints.load_shapes(3)


def test_each_array_is_in_one_of_two_parts(tmp_path):
    """Prediction needs the variables only, even if the other part is lost."""
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, None, {})
        checkpoints.wait()
        parts = split_state(abstract_state(3), variables)
        assert list(parts.training) == ["c.0"]
        back = checkpoints.restore(3, abstract_state(3), variables)
        jax.tree.map(np.testing.assert_array_equal, back, state(3))
        shutil.rmtree(tmp_path / "checkpoints/3/training")
        loaded = checkpoints.load_variables(3, parts.variables)
        np.testing.assert_array_equal(loaded["params"], [3, 3, 3])
        assert checkpoints.load_shapes(3)["params"].shape == (3,)


def test_the_lowest_loss_is_best(tmp_path):
    with Checkpoints(tmp_path, "val/loss") as checkpoints:
        for step, loss in ((1, 0.9), (2, 0.1), (3, 0.5), (4, None)):
            checkpoints.save(step, state(step), variables, None, {"val/loss": loss})
        checkpoints.wait()
        assert checkpoints.best == 2


def test_the_format_of_earlier_versions_is_refused(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, None, {})
        checkpoints.wait()
        (tmp_path / "checkpoints/3/variables").rename(tmp_path / "checkpoints/3/state")
        with pytest.raises(UserError, match=r"3 is of the format before 0.2.*train ag"):
            checkpoints.load_variables(3, abstract_state(3))
