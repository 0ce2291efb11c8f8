"""The tasks of the study beyond SGD: a network, its data, and how a batch is drawn."""

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from heavytail_optax.experiments.data.loading import read_dataset
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.models.networks import build_network
from heavytail_optax.experiments.presets import PRESETS

Params = Any


class Split(NamedTuple):
    """Inputs and labels, each with a leading axis over the examples."""

    inputs: jax.Array
    labels: jax.Array


class Task(NamedTuple):
    """What is learned; all functions are pure.

    Attributes:
      steps: of a run, and `batch`: examples in each of them.
      num_seeds: of the runs that count.
      num_measured: training examples that flatness is measured on, and `num_scored`:
        those that training accuracy and loss are.
      train: with the true labels; so are `valid` and `test`.
      checksum: the first digits of the SHA-256 of the data.
      init: from a key to parameters.
      unit_losses: `(params, units) -> losses`, one loss for each unit of a batch. A
        unit is an example, or a group that is normalised together.
      units: a split as units, and `draw`: `(key, train) -> units`, a batch with
        augmentation.
      logits: `(params, statistics, inputs) -> logits`, for tests.
      statistics: `(params, train) -> what the network is normalised by in tests`.
      matrices: dimensions that are matrices for Muon.
      has_images: whether the inputs are images, which can be corrupted.
    """

    steps: int
    batch: int
    num_seeds: int
    num_measured: int
    num_scored: int
    train: Split
    valid: Split
    test: Split
    checksum: str
    init: Callable[[jax.Array], Params]
    unit_losses: Callable[[Params, Any], jax.Array]
    units: Callable[[Split], Any]
    draw: Callable[[jax.Array, Split], Any]
    logits: Callable[[Params, Any, jax.Array], jax.Array]
    statistics: Callable[[Params, Split], Any]
    matrices: Callable[[Params], Any]
    has_images: bool


NOISES = {"lenet": ("200", "40", "0", "20"), "bytes": ("none",), "resnet": ("none",)}


def matrices_of(params: Params) -> Any:
    """Matrices, and kernels of convolutions with all their inputs as rows."""

    def of_leaf(x: jax.Array) -> Any:
        if x.ndim == 4:
            return optax.contrib.MuonDimensionNumbers((0, 1, 2), 3)
        return optax.contrib.MuonDimensionNumbers(0, 1) if x.ndim == 2 else None

    return jax.tree.map(of_leaf, params)


def with_noise(labels: jax.Array, noise: str, key: jax.Array) -> jax.Array:
    """Labels of which some are drawn from all ten classes."""
    if noise in ("none", "0"):
        return labels
    drawn_key, place_key = jax.random.split(key)
    drawn = jax.random.randint(drawn_key, labels.shape, 0, 10, labels.dtype)
    if noise == "200":
        is_drawn = jnp.arange(labels.size) >= labels.size - 200
    else:
        is_drawn = jax.random.bernoulli(place_key, int(noise) / 100, labels.shape)
    return jnp.where(is_drawn, drawn, labels)


def cross_entropies(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of each example, the mean over its labels where it has several."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.reshape(len(losses), -1).mean(axis=1)


def drawn(key: jax.Array, train: Split, number: int) -> Split:
    """Examples without replacement."""
    chosen = jax.random.permutation(key, train.labels.shape[0])[:number]
    return jax.tree.map(lambda x: x[chosen], train)


def lenet(data_dir: pathlib.Path | None) -> Task:
    """The LeNet of the study on 1,200 images of FashionMNIST."""
    settings = replaced(
        PRESETS["corrupted-fashion-mnist"].settings,
        clean_examples=3200,
        corrupted_examples=0,
    )
    data = read_dataset(settings.data, data_dir)
    images, labels = data.train
    predict, init = build_network(
        settings.model, images.shape[1:], 10, settings.data.pixel_range
    )
    structure = jax.eval_shape(init, jax.random.key(0))

    def logits(params: Params, statistics: Any, inputs: jax.Array) -> jax.Array:
        del statistics
        state = jax.tree.unflatten(
            jax.tree.structure(structure), jax.tree.leaves(params)
        )
        return predict(state, inputs)

    def losses(params: Params, batch: Split) -> jax.Array:
        return cross_entropies(logits(params, None, batch.inputs), batch.labels)

    return Task(
        steps=2000,
        batch=50,
        num_seeds=5,
        num_measured=1200,
        num_scored=1200,
        train=Split(images[:1200], labels[:1200]),
        valid=Split(images[1200:], labels[1200:]),
        test=Split(*data.test),
        checksum=checksum(images, labels, *data.test),
        init=lambda key: nnx.to_pure_dict(init(key)),
        unit_losses=losses,
        units=lambda split: split,
        draw=lambda key, train: drawn(key, train, 50),
        logits=logits,
        statistics=lambda params, train: None,
        matrices=matrices_of,
        has_images=True,
    )


def checksum(*arrays: Any) -> str:
    """The first digits of the SHA-256 of some arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()[:16]
