"""The networks beside the same ones in PyTorch, with the same weights."""

import jax
import numpy as np
import pytest

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.models.networks import build_network

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")

CASES = [
    ("lenet", (28, 28, 1), 1.0),
    ("vgg11", (32, 32, 3), 0.25),
    ("vgg11", (32, 32, 3), 1.0),
    ("vgg16", (32, 32, 3), 0.25),
]


def layers_of(params):
    """Every (kernel, bias), in the order of the forward pass."""
    if "blocks" in params:
        blocks = params["blocks"]
        for block in sorted(blocks):
            yield from (blocks[block][layer] for layer in sorted(blocks[block]))
    names = ("convolution1", "convolution2", "dense1", "dense2", "dense3")
    yield from (params[name] for name in names if name in params)


def carry_over(params, network):
    """Copies our parameters into a network of PyTorch."""
    theirs = [m for m in network.modules() if hasattr(m, "weight")]
    with torch.no_grad():
        for ours, layer in zip(layers_of(params), theirs, strict=True):
            kernel = np.asarray(ours["kernel"])
            axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
            layer.weight.copy_(torch.tensor(kernel.transpose(axes)))
            layer.bias.copy_(torch.tensor(np.asarray(ours["bias"])))


@pytest.mark.parametrize(("model", "image_shape", "width"), CASES)
def test_logits_are_those_of_pytorch(tiny, model, image_shape, width):
    import torch_networks

    settings = replaced(
        tiny,
        model=model,
        image_size=None,
        width=width,
        initialisation="fan-out",
        pixel_range="zero-to-one",
    )
    predict, init = build_network(
        settings.model, image_shape, 10, settings.data.pixel_range
    )
    params = jax.jit(init)(jax.random.key(0))
    network = torch_networks.build(model, width)
    carry_over(params, network)
    images = np.random.default_rng(0).integers(0, 256, (5, *image_shape), np.uint8)
    with torch.no_grad():
        pixels = torch.tensor(images.transpose(0, 3, 1, 2)) / 255
        theirs = network(pixels).numpy()
    assert theirs.std() > 0.01
    np.testing.assert_allclose(predict(params, images), theirs, atol=1e-4)
