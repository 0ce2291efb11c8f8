"""The networks of the flatness benchmark, trained a little, and the files that hold them.

One folder a network: `network.json` says which it is and lists the layers with weights
in order, `arrays.npz` holds their kernels (height, width, channels in, channels out;
inputs, outputs) and biases, images as bytes, labels, and the loss in JAX.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.models.networks import CONFIGURATIONS, build_network
from heavytail_optax.experiments.presets import PRESETS


class Network(NamedTuple):
    """What is measured, and on how many images."""

    model: str
    width: float
    image_shape: tuple[int, int, int]
    examples: int


NETWORKS = {
    "lenet": Network("lenet", 1.0, (28, 28, 1), 1200),
    "vgg11-eighth": Network("vgg11", 0.125, (32, 32, 3), 400),
}
_NUM_CLASSES = 10
_TRAINING_STEPS = 300
_BATCH_SIZE = 100


def functions(name: str) -> tuple[Callable[..., jax.Array], Callable[..., Any]]:
    """`loss(params, images, labels)` and `init(key)` of a network."""
    network = NETWORKS[name]
    settings = replaced(
        PRESETS["corrupted-digits"].settings,
        model=network.model,
        width=network.width,
        image_size=network.image_shape[0],
    )
    predict, init = build_network(
        settings.model, network.image_shape, _NUM_CLASSES, settings.data.pixel_range
    )

    def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = predict(params, images)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    return loss, init


def load(
    name: str, folder: pathlib.Path
) -> tuple[Callable[..., jax.Array], Any, tuple[jax.Array, jax.Array]]:
    """Loss, parameters and (images, labels), as they were saved."""
    loss, init = functions(name)
    saved = np.load(folder / "arrays.npz")
    like = jax.eval_shape(init, jax.random.key(0))
    params = jax.tree.map_with_path(
        lambda path, _: jnp.asarray(saved[jax.tree_util.keystr(path)]), like
    )
    return loss, params, (jnp.asarray(saved["images"]), jnp.asarray(saved["labels"]))


def train_and_save(name: str, folder: pathlib.Path) -> None:
    """Trains on ten noisy patterns, so that the Hessian is like one at a minimum."""
    network = NETWORKS[name]
    loss, init = functions(name)
    keys = jax.random.split(jax.random.key(0), 4)
    n = network.examples
    labels = jax.random.randint(keys[0], (n,), 0, _NUM_CLASSES)
    patterns = jax.random.normal(keys[1], (_NUM_CLASSES, *network.image_shape))
    noise = jax.random.normal(keys[2], (n, *network.image_shape))
    pixels = 127.5 + 40.0 * (patterns[labels] + 2.0 * noise)
    images = jnp.clip(pixels, 0.0, 255.0).astype(jnp.uint8)
    optimizer = optax.sgd(0.05)

    @jax.jit
    def step(params, state, index):
        batch, targets = (
            jax.lax.dynamic_slice_in_dim(x, index * _BATCH_SIZE, _BATCH_SIZE)
            for x in (images, labels)
        )
        gradient = jax.grad(loss)(params, batch, targets)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    params = init(keys[3])
    state = optimizer.init(params)
    for index in range(_TRAINING_STEPS):
        params, state = step(params, state, index % (n // _BATCH_SIZE))
    arrays = {
        jax.tree_util.keystr(path): np.asarray(x)
        for path, x in jax.tree.leaves_with_path(params)
    }
    arrays |= {"images": np.asarray(images), "labels": np.asarray(labels)}
    arrays["loss"] = np.asarray(loss(params, images, labels))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "arrays.npz", **arrays)
    description = {
        "model": network.model,
        "width": network.width,
        "layers": _layers(network),
    }
    (folder / "network.json").write_text(json.dumps(description))


def _layers(network: Network) -> list[str]:
    """Names of the layers with weights, in order."""
    if network.model == "lenet":
        names = ["convolution1", "convolution2", "dense1", "dense2"]
        return [f"['{name}']" for name in names]
    convolutions = [
        f"['blocks'][{block}][{index}]"
        for block, channels in enumerate(CONFIGURATIONS[network.model])
        for index in range(len(channels))
    ]
    return [*convolutions, "['dense1']", "['dense2']", "['dense3']"]
