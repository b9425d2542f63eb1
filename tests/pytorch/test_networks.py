"""Imported networks compute what PyTorch computes, with random weights."""

import jax
import numpy as np
import pytest

from tests.pytorch.comparison import TOLERANCE, compare, randomise
from unet_jax.models import UNet
from unet_jax.optimizers import format_path
from unet_jax.pytorch import recognise
from unet_jax.run.weights import list_arrays

torch = pytest.importorskip("torch")
nn = torch.nn


class DoubleConv(nn.Module):
    """The blocks of github.com/milesial/Pytorch-UNet, by their published names."""

    def __init__(self, before, after, middle=None, bias=False):
        super().__init__()
        middle = middle or after
        layers = []
        for a, b in ((before, middle), (middle, after)):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=bias)]
            layers += [nn.BatchNorm2d(b), nn.ReLU()]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, before, after, bias):
        super().__init__()
        conv = DoubleConv(before, after, bias=bias)
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), conv)

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, before, after, bilinear, bias):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(before, after, before // 2, bias)
        else:
            self.up = nn.ConvTranspose2d(before, before // 2, 2, stride=2)
            self.conv = DoubleConv(before, after, bias=bias)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class OutConv(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 1)

    def forward(self, x):
        return self.conv(x)


class Milesial(nn.Module):
    def __init__(self, channels, classes, bilinear, width=64, bias=False):
        super().__init__()
        w, f = width, 2 if bilinear else 1
        self.inc = DoubleConv(channels, w, bias=bias)
        self.down1, self.down2 = Down(w, 2 * w, bias), Down(2 * w, 4 * w, bias)
        self.down3, self.down4 = (
            Down(4 * w, 8 * w, bias),
            Down(8 * w, 16 * w // f, bias),
        )
        self.up1 = Up(16 * w, 8 * w // f, bilinear, bias)
        self.up2 = Up(8 * w, 4 * w // f, bilinear, bias)
        self.up3 = Up(4 * w, 2 * w // f, bilinear, bias)
        self.up4 = Up(2 * w, w, bilinear, bias)
        self.outc = OutConv(w, classes)

    def forward(self, x):
        skips = [self.inc(x)]
        for down in (self.down1, self.down2, self.down3, self.down4):
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in (self.up1, self.up2, self.up3, self.up4):
            x = up(x, skips.pop())
        return self.outc(x)


def save(network, path):
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize("bilinear", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_milesial(tmp_path, bilinear, bias):
    network = randomise(Milesial(3, 2, bilinear, width=4, bias=bias))
    path = save(network, tmp_path / "unet.pth")
    assert recognise(path).architecture.model["widths"][0] == 4
    assert compare(network, path, (3, 48, 32)) < TOLERANCE


@pytest.mark.parametrize(
    ("axes", "options"),
    [
        (2, {}),
        (3, {}),
        (2, {"norm": "batch", "bias": False}),
        (2, {"features": (4, 6, 8, 10, 12, 5), "dropout": 0.1}),
    ],
)
def test_basic_unet(tmp_path, axes, options):
    monai = pytest.importorskip("monai.networks.nets")
    small = {"features": (4, 4, 8, 16, 32, 4)}
    network = randomise(
        monai.BasicUNet(axes, in_channels=2, out_channels=3, **(small | options))
    )
    path = save(network, tmp_path / "unet.pt")
    shape = (2, *(32, 48, 32)[:axes])
    assert compare(network, path, shape) < TOLERANCE


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        pytest.param("resnet34", marks=pytest.mark.slow),
        pytest.param("resnet50", marks=pytest.mark.slow),
    ],
)
def test_smp(tmp_path, name):
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = smp.Unet(name, encoder_weights=None, in_channels=3, classes=2)
    network = randomise(network, scale=0.4)
    path = save(network, tmp_path / "unet.pth")
    assert compare(network, path, (3, 64, 96)) < TOLERANCE


@pytest.mark.parametrize(
    "name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_encoders(tmp_path, package, name):
    """The features of the deepest level, of an encoder without a decoder."""
    if package == "timm":
        timm = pytest.importorskip("timm")
        network = timm.create_model(name, pretrained=False)
    else:
        models = pytest.importorskip("torchvision.models")
        network = getattr(models, name)(weights=None)
    path = save(randomise(network, scale=0.4), tmp_path / "encoder.pth")
    imported = recognise(path)
    assert imported.architecture.outputs == 0
    model = UNet(**imported.architecture.model, padding="SAME", dropout=0.0)
    image = np.random.default_rng(1).normal(size=(1, 3, 64, 96)).astype("f4")
    with torch.no_grad():
        x = torch.from_numpy(image)
        x = network.maxpool(
            (network.act1 if package == "timm" else network.relu)(
                network.bn1(network.conv1(x))
            )
        )
        for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = layer(x)
    pixels = np.moveaxis(image, 1, -1)
    variables = model.init(jax.random.key(0), pixels)
    flat = {**list_arrays(variables), **imported.load()}
    assert flat.keys() == list_arrays(variables).keys()
    tree = jax.tree_util.tree_map_with_path(
        lambda path, _: flat[format_path(path)], variables
    )
    last = "down5_1" if name == "resnet18" else "down5_2"
    _, state = model.apply(
        tree,
        pixels,
        capture_intermediates=lambda module, _: module.name == last,
        mutable=["intermediates"],
    )
    (got,) = state["intermediates"][last]["__call__"]
    expected = np.moveaxis(x.numpy(), 1, -1)
    assert np.abs(expected).max() > 0.1
    difference = np.abs(got - expected).max()
    print(f"{package} {name}: output {expected.max():.2g}, difference {difference:.1e}")
    assert difference < TOLERANCE
