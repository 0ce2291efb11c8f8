"""What a measure is given, and what it gives back."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from heavytail_optax.experiments.data import Split
from heavytail_optax.experiments.devices.parallel import replicate, spread
from heavytail_optax.experiments.models.networks import build_network
from heavytail_optax.experiments.settings import ModelSettings, PixelRange, Settings
from heavytail_optax.experiments.training.evaluation import loss_per_example
from heavytail_optax.experiments.training.random_streams import random_streams
from heavytail_optax.flatness import HessianEigenvalues, hessian_eigenvalues
from heavytail_optax.flatness import mean_over_batches as in_batches

# On each device. On a CPU a loss or a product with the Hessian of more images takes up
# to twice as long an image, as they are too large for the cache.
_IMAGES_AT_ONCE = 256
_IMAGES_AT_ONCE_ON_CPU = 50

Loss = Callable[[Any, Split], jax.Array]
Arguments = Mapping[str, Any]
Scalars = Mapping[str, tuple[float, float | None]]
Curve = Mapping[str, list[float]]
Tick = Callable[[int, int], bool]
"""Told how many parts of a measure are done, of how many, first that none is; says
whether to stop."""


class Outcome(NamedTuple):
    """Result of a measure, as plain numbers.

    Attributes:
      scalars: name -> (value, standard error or None).
      curves: name -> columns of numbers, equally long.
      remark: what a reader of the scalars must know, such as that a search hit its
        bound; empty if nothing.
    """

    scalars: Scalars = MappingProxyType({})
    curves: Mapping[str, Curve] = MappingProxyType({})
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A trained network on its training images.

    Attributes:
      loss: mean cross-entropy of parameters and images; equal for the runs of a grid,
        which so share what is compiled.
      error: share of the images that are not classified as labelled.
      params: after the last step.
      train: the training images with the labels that were trained on.
      settings: of the run.
      key: of all sampling; the measures of the library are independent for one key.
    """

    loss: Loss
    error: Loss
    params: Any
    train: Split
    settings: Settings
    key: jax.Array

    def top_eigenvalues(self, **arguments: Any) -> HessianEigenvalues:
        """Of the Hessian; computed once for the same arguments."""
        known = self._known_eigenvalues
        asked = tuple(sorted(arguments.items()))
        if asked not in known:
            known[asked] = hessian_eigenvalues(
                self.loss, self.params, key=self.key, args=(self.train,), **arguments
            )
        return known[asked]

    @functools.cached_property
    def _known_eigenvalues(self) -> dict[tuple[Any, ...], HessianEigenvalues]:
        return {}


def new_problem(
    settings: Settings,
    params: Any,
    train: Split,
    num_classes: int,
    mesh: Mesh | None = None,
) -> Problem:
    """The problem of a run."""
    shape, pixel_range = train.images.shape[1:], settings.data.pixel_range
    loss, error = _losses(settings.model, shape, num_classes, pixel_range, mesh)
    key = random_streams(settings.seed).sharpness
    train = replicate(mesh, jax.tree.map(jnp.asarray, train))
    return Problem(loss, error, params, train, settings, replicate(mesh, key))


@functools.lru_cache(maxsize=4)
def _losses(
    settings: ModelSettings,
    image_shape: tuple[int, ...],
    num_classes: int,
    pixel_range: PixelRange,
    mesh: Mesh | None,
) -> tuple[Loss, Loss]:
    predict, _ = build_network(settings, image_shape, num_classes, pixel_range)
    predict = spread(mesh, predict)

    def loss(params: Any, split: Split) -> jax.Array:
        return loss_per_example(predict, params, split).mean()

    def error(params: Any, split: Split) -> jax.Array:
        classes = predict(params, split.images).argmax(-1)
        return (classes != split.labels).astype(jnp.float32).mean()

    is_cpu = jax.default_backend() == "cpu"
    devices = 1 if mesh is None else mesh.size
    at_once = devices * (_IMAGES_AT_ONCE_ON_CPU if is_cpu else _IMAGES_AT_ONCE)
    return in_batches(loss, at_once), in_batches(error, at_once)
