"""The networks of the flatness benchmark, trained a little, and the files that hold them.

One folder a network: `network.json` says which it is and lists the layers with weights
in order, `arrays.npz` holds their weights by name (kernels as height, width, channels in,
channels out, or inputs, outputs), the inputs, the labels, and the loss in JAX.
"""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import language_model
import numpy as np
import optax

from heavytail_optax import flatness
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.models.networks import CONFIGURATIONS, build_network
from heavytail_optax.experiments.presets import PRESETS


class Network(NamedTuple):
    """What is measured: images of a shape, or texts of a length."""

    model: str
    width: float
    shape: tuple[int, ...]


NETWORKS = {
    "lenet": Network("lenet", 1.0, (28, 28, 1)),
    "vgg11-quarter": Network("vgg11", 0.25, (32, 32, 3)),
    "gpt": Network("gpt", 96, (16,)),
}
EXAMPLES = 400
VOCABULARY, LAYERS = 65, 2  # of the language model
_NUM_CLASSES = 10
_TRAINING_STEPS = 50
_BATCH_SIZE = 100

Predict = Callable[..., jax.Array]


def functions(name: str) -> tuple[Predict, Callable[..., Any]]:
    """`predict(params, inputs, labels)` and `init(key)` of a network."""
    network = NETWORKS[name]
    if network.model == "gpt":
        init = functools.partial(
            language_model.first_weights,
            vocabulary=VOCABULARY,
            width=int(network.width),
            layers=LAYERS,
            length=network.shape[0],
        )
        return language_model.predict, init
    settings = replaced(
        PRESETS["corrupted-digits"].settings,
        model=network.model,
        width=network.width,
        image_size=network.shape[0],
    )
    of_images, init = build_network(
        settings.model, network.shape, _NUM_CLASSES, settings.data.pixel_range
    )

    def predict(params: Any, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        del labels
        return of_images(params, inputs)

    return predict, init


def loss_of_outputs(
    outputs: jax.Array, inputs: jax.Array, labels: jax.Array
) -> jax.Array:
    """The mean cross-entropy."""
    del inputs
    return flatness.softmax_cross_entropy(outputs, labels).mean()


def load(
    name: str, folder: pathlib.Path, examples: int
) -> tuple[Predict, Any, tuple[jax.Array, jax.Array]]:
    """`predict`, parameters and the first (inputs, labels), as they were saved."""
    predict, init = functions(name)
    saved = np.load(folder / "arrays.npz")
    like = jax.eval_shape(init, jax.random.key(0))
    params = jax.tree.map_with_path(
        lambda path, _: jnp.asarray(saved[jax.tree_util.keystr(path)]), like
    )
    data = tuple(jnp.asarray(saved[key][:examples]) for key in ("inputs", "labels"))
    return predict, params, data


def _made_up(network: Network, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ten patterns in noise; or texts that count on, from letter to letter."""
    keys = jax.random.split(key, 3)
    if network.model == "gpt":
        steps = jax.random.randint(keys[0], (EXAMPLES, network.shape[0] + 1), 0, 3)
        texts = jnp.cumsum(steps, axis=1) % VOCABULARY
        return texts[:, :-1], texts[:, 1:]
    labels = jax.random.randint(keys[0], (EXAMPLES,), 0, _NUM_CLASSES)
    patterns = jax.random.normal(keys[1], (_NUM_CLASSES, *network.shape))
    noise = jax.random.normal(keys[2], (EXAMPLES, *network.shape))
    pixels = 127.5 + 40.0 * (patterns[labels] + 2.0 * noise)
    return jnp.clip(pixels, 0.0, 255.0).astype(jnp.uint8), labels


def train_and_save(name: str, folder: pathlib.Path) -> None:
    """Trains a little, so that the Hessian is like one at a minimum."""
    network = NETWORKS[name]
    predict, init = functions(name)
    keys = jax.random.split(jax.random.key(0))
    inputs, labels = _made_up(network, keys[0])
    optimizer = optax.sgd(0.05)

    def loss(params: Any, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        return loss_of_outputs(predict(params, inputs, labels), inputs, labels)

    @jax.jit
    def step(params, state, index):
        batch, targets = (
            jax.lax.dynamic_slice_in_dim(x, index * _BATCH_SIZE, _BATCH_SIZE)
            for x in (inputs, labels)
        )
        gradient = jax.grad(loss)(params, batch, targets)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    params = init(keys[1])
    state = optimizer.init(params)
    for index in range(_TRAINING_STEPS):
        params, state = step(params, state, index % (EXAMPLES // _BATCH_SIZE))
    arrays = {
        jax.tree_util.keystr(path): np.asarray(x)
        for path, x in jax.tree.leaves_with_path(params)
    }
    arrays |= {"inputs": np.asarray(inputs), "labels": np.asarray(labels)}
    arrays["loss"] = np.asarray(jax.jit(loss)(params, inputs, labels))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "arrays.npz", **arrays)
    description = {
        "model": network.model,
        "width": network.width,
        "layers": _layers(network),
    }
    (folder / "network.json").write_text(json.dumps(description))


def _layers(network: Network) -> list[str]:
    """Names of the layers with weights, in order; none for the language model."""
    if network.model == "gpt":
        return []
    if network.model == "lenet":
        names = ["convolution1", "convolution2", "dense1", "dense2"]
        return [f"['{name}']" for name in names]
    convolutions = [
        f"['blocks'][{block}][{index}]"
        for block, channels in enumerate(CONFIGURATIONS[network.model])
        for index in range(len(channels))
    ]
    return [*convolutions, "['dense1']", "['dense2']", "['dense3']"]
