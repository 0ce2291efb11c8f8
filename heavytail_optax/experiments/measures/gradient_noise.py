"""The noise of small batches' gradients on the training images, and how heavy its tails are."""

import functools
import itertools
import pathlib
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax.flatness import mean_over_batches
from heavytail_optax.tail_index import (
    ExtremalIndex,
    TailAssessment,
    TailFit,
    assess_tail,
    compare_fits,
    extremal_index,
)

from ..data.dataset import Split
from ..files import replacing
from ..models.networks import Predict, build_network
from ..programs import compiled
from ..settings import Settings
from ..training.batches import draw_places, random_streams
from ..training.evaluation import IMAGES_AT_ONCE, loss_per_example
from .measure import Tick

Size = Literal["norm", "projection", "coordinate"]
SIZES: tuple[Size, ...] = get_args(Size)
ALL = "all"
"""What all layers together are called."""

_VECTORS_AT_ONCE = 50


class NoiseDraws(NamedTuple):
    """Sizes of `g_i - g` for n small batches; the first row is all layers together."""

    layers: tuple[str, ...]  # name of each row
    parameters: tuple[int, ...]  # how many each row has
    sizes: np.ndarray  # of `SIZES`. shape=(3, rows, n), dtype=float32, at least 0
    gradient_norms: np.ndarray  # `|g_i|` of all parameters. shape=(n,), dtype=float32

    def of(self, size: Size, layer: str = ALL) -> np.ndarray:
        """The draws of one size of one layer, shape (n,)."""
        return self.sizes[SIZES.index(size), self.layers.index(layer)]


def layer_vectors(tree: Any) -> dict[str, jax.Array]:
    """The entries of all layers in one vector, and those of each layer in one."""
    parts: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path[:-1] or path, simple=True, separator="/")
        parts.setdefault(name, []).append(leaf.reshape(-1).astype(jnp.float32))
    layers = {name: jnp.concatenate(leaves) for name, leaves in parts.items()}
    return {ALL: jnp.concatenate(list(layers.values())), **layers}


def noise_arguments(
    settings: Settings, draws: int, batch_size: int | None
) -> dict[str, int]:
    """All that the noise depends on besides the run."""
    batch_size = batch_size or settings.training.batch_size
    if batch_size == 1:
        draws = min(draws, settings.data.training_examples)
    return {"draws": draws, "batch_size": batch_size}


def measure_gradient_noise(
    settings: Settings,
    params: Any,
    train: Split,
    num_classes: int,
    arguments: Mapping[str, int],
    tick: Tick,
) -> NoiseDraws | None:
    """Draws small batches without replacement, and takes the sizes of `g_i - g`.

    `g_i` is the gradient on the i-th batch, `g` that on all training images, both without
    augmentation. The projection is along a direction drawn once for each row; the
    coordinate is drawn anew for each batch, so the draws are independent.
    """
    shape, pixel_range = train.images.shape[1:], settings.data.pixel_range
    predict, _ = build_network(settings.model, shape, num_classes, pixel_range)
    gradient, draw = _compiled(predict, arguments["batch_size"])
    key = jax.random.fold_in(random_streams(settings.seed).sharpness, 7)
    batch_key, direction_key, coordinate_key = jax.random.split(key, 3)
    train = jax.tree.map(jnp.asarray, train)
    vectors = layer_vectors(params)
    directions = {}
    for row, (name, vector) in enumerate(vectors.items()):
        normal = jax.random.normal(jax.random.fold_in(direction_key, row), vector.shape)
        directions[name] = normal / jnp.linalg.norm(normal)
    mean = gradient(params, train)
    total = arguments["draws"]
    parts = []
    for done in range(0, total, _VECTORS_AT_ONCE):
        if tick(done, total):
            return None
        part = draw(params, train, mean, directions, (batch_key, coordinate_key), done)
        parts.append(jax.device_get(part))
    sizes, norms = (np.concatenate(each)[:total] for each in zip(*parts, strict=True))
    return NoiseDraws(
        tuple(vectors),
        tuple(vector.size for vector in vectors.values()),
        np.ascontiguousarray(np.moveaxis(sizes, 0, -1)),
        norms,
    )


@functools.lru_cache(maxsize=4)
def _compiled(
    predict: Predict, batch_size: int
) -> tuple[Callable[..., Any], Callable[..., tuple[jax.Array, jax.Array]]]:
    """The gradient on all images, and the sizes of a part of the noise vectors."""

    def loss(params: Any, split: Split) -> jax.Array:
        return loss_per_example(predict, params, split).mean()

    def places_of(key: jax.Array, step: jax.Array, number: int) -> jax.Array:
        if batch_size == 1:  # Each image comes once, so no draw is there twice.
            return jax.random.permutation(key, number)[step % number][None]
        return draw_places(key, step, number, batch_size)

    def draw(params, train, mean, directions, keys, first):
        batch_key, coordinate_key = keys

        def one(step):
            places = places_of(batch_key, step, train.labels.shape[0])
            batch = Split(train.images[places], train.labels[places])
            gradient = jax.grad(loss)(params, batch)
            noise = layer_vectors(jax.tree.map(jnp.subtract, gradient, mean))
            sizes = []
            for row, (name, vector) in enumerate(noise.items()):
                key = jax.random.fold_in(jax.random.fold_in(coordinate_key, step), row)
                coordinate = vector[jax.random.randint(key, (), 0, vector.size)]
                projection = vector @ directions[name]
                numbers = (
                    jnp.linalg.norm(vector),
                    jnp.abs(projection),
                    jnp.abs(coordinate),
                )
                sizes.append(jnp.stack(numbers))
            norm = jnp.linalg.norm(layer_vectors(gradient)[ALL])
            return jnp.stack(sizes, axis=-1), norm

        return jax.lax.map(one, first + jnp.arange(_VECTORS_AT_ONCE))

    of_batches = jax.grad(mean_over_batches(loss, IMAGES_AT_ONCE))
    return compiled(of_batches), compiled(draw)


def write_noise(path: pathlib.Path, draws: NoiseDraws) -> None:
    """Keeps what has been measured, all at once or not at all."""
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **draws._asdict())


def read_noise(path: pathlib.Path) -> NoiseDraws | None:
    """What was kept; None if there is no such file, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            draws = NoiseDraws(**{name: kept[name] for name in NoiseDraws._fields})
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if draws.sizes.shape != (len(SIZES), len(draws.layers), draws.gradient_norms.size):
        return None
    layers, parameters = draws.layers.tolist(), draws.parameters.tolist()
    return draws._replace(layers=tuple(layers), parameters=tuple(parameters))


# Student's and the stable law are two-sided laws of a number, which a norm is not.
ALTERNATIVES: dict[Size, tuple[str, ...]] = {
    "norm": ("exponential", "lognormal"),
    "projection": ("exponential", "lognormal", "student_t", "stable"),
    "coordinate": ("exponential", "lognormal", "student_t", "stable"),
}
_FEWEST_OF_CLUSTERS = 20  # of the largest draws
_FEWEST = 10  # positive draws that `assess_tail` takes


class LayerTail(NamedTuple):
    """One size of one layer's noise."""

    layer: str  # its name, or "all"
    parameters: int
    size: Size
    draws: int
    non_finite: int  # draws that are NaN or infinite
    assessment: TailAssessment | None  # None with these, or if almost all are zero
    fits: dict[str, TailFit]  # the power law's rivals, by name; empty likewise
    clusters: ExtremalIndex | None  # of the draws in their order; None likewise

    @property
    def verdict(self) -> str:
        """In a few words."""
        return self.assessment.verdict if self.assessment else "cannot tell"

    @property
    def sentence(self) -> str:
        """The verdict in a sentence, with numbers."""
        if self.assessment:
            return self.assessment.sentence
        if self.non_finite:
            return (
                f"Cannot tell: {self.non_finite} of {self.draws} draws are not finite."
            )
        return f"Cannot tell: fewer than {_FEWEST} of {self.draws} draws are not zero."


def assess_noise(
    draws: NoiseDraws, tick: Callable[[int, int], None] = lambda done, total: None
) -> list[LayerTail]:
    """The tails of every size, of all layers together and of each.

    `tick` is called with the number of tails done and of all, before each and at the end.
    """
    found: list[LayerTail] = []
    layers = list(zip(draws.layers, draws.parameters, strict=True))
    total = len(SIZES) * len(layers)
    for size, (layer, parameters) in itertools.product(SIZES, layers):
        tick(len(found), total)
        values = draws.of(size, layer)
        assessment, fits = _assess(values, ALTERNATIVES[size])
        bad = np.count_nonzero(~np.isfinite(values))
        of_layer = layer, parameters, size, values.size, bad
        clusters = _clusters(values, assessment)
        found.append(LayerTail(*of_layer, assessment, fits, clusters))
    tick(total, total)
    return found


def _assess(
    values: np.ndarray, alternatives: tuple[str, ...]
) -> tuple[TailAssessment | None, dict[str, TailFit]]:
    # Zeros, as of units that are off, are draws too, but have no logarithm.
    positive = values[values > 0.0]
    if positive.size < _FEWEST or not np.isfinite(values).all():
        return None, {}
    assessment = assess_tail(jnp.asarray(positive), num_draws=values.size)
    k = assessment.k
    # The draws that count, so the compiled program depends on k alone.
    top = jnp.asarray(np.sort(positive)[-k - 1 :])
    rivals = compare_fits(top, k, alternatives=alternatives)
    del rivals["power_law"]
    return assessment, jax.tree.map(float, rivals)


def _clusters(
    values: np.ndarray, assessment: TailAssessment | None
) -> ExtremalIndex | None:
    if assessment is None or assessment.k < _FEWEST_OF_CLUSTERS:
        return None
    return extremal_index(values, assessment.k)
