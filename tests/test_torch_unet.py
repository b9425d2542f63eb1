"""The network that experiments/export/torch_unet.py rebuilds from an export."""

import ast
import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from unet_jax.configs import base
from unet_jax.export.weights import write_weights
from unet_jax.models import UNet
from unet_jax.run.run_config import config_to_json

FILE = Path(__file__).parents[1] / "experiments/export/torch_unet.py"
CASES = [
    {"norm": "batch"},
    {"norm": "none", "padding": "VALID"},
    {"norm": "instance", "activation": "leaky_relu", "negative_slope": 0.2},
    {"norm": "batch", "axes": 3, "strides": ((1, 2, 2), (2, 2, 2))},
]


def load_module():
    spec = importlib.util.spec_from_file_location("torch_unet", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("field", ["norm='group'", "head_kernel=3", "activation='elu'"])
def test_other_networks_are_refused(field, tmp_path):
    pytest.importorskip("torch")
    name, _, value = field.partition("=")
    model = {"name": "UNet", "widths": [4, 6], name: ast.literal_eval(value)}
    (tmp_path / "model.json").write_text(json.dumps({"config": {"model": model}}))
    with pytest.raises(SystemExit, match=f"model.{field} is not rebuilt here"):
        load_module().load(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_pytorch_computes_the_same(case, tmp_path):
    torch = pytest.importorskip("torch")
    module = load_module()
    axes = case.pop("axes", 2)
    fields = {"widths": (4, 6, 8), "padding": "SAME", "outputs": 3, **case}
    model = UNet(**fields)
    shape = model.geometry(axes).valid_shape((20, 24, 18)[:axes])
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, *shape, 2)).astype("f4")
    variables = jax.tree.map(
        lambda x: np.abs(x + 0.2 * rng.normal(size=x.shape)).astype("f4"),
        model.init(jax.random.key(0), image),
    )
    config = base.get_config()
    config.model.update({k: v for k, v in fields.items() if k != "outputs"})
    content = {"config": {"model": config_to_json(config)["model"]}}
    (tmp_path / "model.json").write_text(json.dumps(content))
    (tmp_path / "weights.safetensors").write_bytes(write_weights(variables, {}))

    network = module.load(tmp_path)
    found = network(torch.from_numpy(np.moveaxis(image, -1, 1).copy())).numpy()
    expected = np.asarray(model.apply(variables, image))
    limit = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected, atol=limit)
