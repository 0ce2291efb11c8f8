"""What is measured of a run of the study beyond SGD."""

from collections.abc import Callable
from typing import Any, NamedTuple

import beyond_sgd_tasks as tasks
import jax
import jax.numpy as jnp

import heavytail_optax as hto

BINS = 15
AT_ONCE = 500
SHIFTED = 2000


def logits_of(
    task: tasks.Task, params: Any, statistics: Any, inputs: jax.Array
) -> jax.Array:
    """Of all inputs, some at a time, the last ones with padding."""
    number = inputs.shape[0]
    parts = -(-number // AT_ONCE)
    size = -(-number // parts)
    missing = parts * size - number
    padded = jnp.concatenate([inputs, inputs[:missing]]) if missing else inputs
    batches = padded.reshape(parts, size, *inputs.shape[1:])
    found = jax.lax.map(lambda x: task.logits(params, statistics, x), batches)
    return found.reshape(parts * size, *found.shape[2:])[:number]


def scores(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Loss, accuracy and expected calibration error, the last two in percent."""
    losses = tasks.cross_entropies(logits, labels)
    flat = jax.nn.softmax(logits).reshape(-1, logits.shape[-1])
    confidence, is_right = flat.max(-1), flat.argmax(-1) == labels.ravel()
    own = jnp.clip((confidence * BINS).astype(jnp.int32), 0, BINS - 1)
    gap = jax.ops.segment_sum(confidence - is_right, own, BINS)
    return {
        "loss": losses.mean(),
        "accuracy": 100.0 * is_right.mean(),
        "calibration_error": 100.0 * jnp.abs(gap).sum() / flat.shape[0],
    }


def named(prefix: str, found: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The same with a prefix."""
    return {f"{prefix}_{what}": value for what, value in found.items()}


def scored(task: tasks.Task, params: Any, train: tasks.Split, split: tasks.Split):
    """The scores on a split."""
    statistics = task.statistics(params, train)
    return scores(logits_of(task, params, statistics, split.inputs), split.labels)


def blurred(images: jax.Array) -> jax.Array:
    """A Gaussian of one pixel, cut at three; the outermost pixels go on."""
    weights = jnp.exp(-0.5 * jnp.arange(-3.0, 4.0) ** 2)
    weights = weights / weights.sum()
    for axis in (1, 2):
        pad = [(3, 3) if axis == own else (0, 0) for own in range(4)]
        padded = jnp.pad(images, pad, mode="edge")
        size = images.shape[axis]
        images = sum(
            w * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
            for i, w in enumerate(weights)
        )
    return images


def shifts(images: jax.Array) -> dict[str, jax.Array]:
    """Images with noise, blurred, and of less contrast, as bytes."""
    pixels = images.astype(jnp.float32)
    middle = pixels.mean(axis=(1, 2, 3), keepdims=True)
    noise = 0.2 * 255.0 * jax.random.normal(jax.random.key(0), pixels.shape)
    changed = {
        "noise": pixels + noise,
        "blur": blurred(pixels),
        "contrast": middle + 0.4 * (pixels - middle),
    }
    return {
        name: jnp.clip(jnp.round(own), 0.0, 255.0).astype(images.dtype)
        for name, own in changed.items()
    }


class Data(NamedTuple):
    """What a run is trained and measured on.

    Attributes:
      train: with the labels that the run is trained on.
      shifted: the first test images, corrupted; empty where there are no images.
    """

    train: tasks.Split
    valid: tasks.Split
    test: tasks.Split
    shifted: dict[str, tasks.Split]


def data_of(task: tasks.Task) -> Data:
    """With the true labels."""
    shifted = {}
    if task.has_images:
        labels = task.test.labels[:SHIFTED]
        for name, images in shifts(task.test.inputs[:SHIFTED]).items():
            shifted[name] = tasks.Split(images, labels)
    return Data(task.train, task.valid, task.test, shifted)


def under_shift(task: tasks.Task, params: Any, data: Data) -> dict[str, jax.Array]:
    """Accuracy on corrupted test images."""
    return {
        f"accuracy_{name}": scored(task, params, data.train, split)["accuracy"]
        for name, split in data.shifted.items()
    }


def measured_loss(task: tasks.Task) -> Callable:
    """The mean loss in training, as a function of parameters, inputs and labels."""
    units = task.units

    def loss(params: Any, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        return task.unit_losses(params, units(tasks.Split(inputs, labels))).mean()

    return loss


def sharpness(task: tasks.Task, params: Any, train: tasks.Split, draws: int):
    """Expected sharpness alone."""
    own = jax.tree.map(lambda x: x[: task.num_measured], train)
    return hto.flatness.expected_sharpness(
        measured_loss(task),
        params,
        args=own,
        key=0,
        num_samples=draws,
        samples_at_once=1,
    ).mean


def flatness(task: tasks.Task, params: Any, train: tasks.Split) -> dict:
    """Expected, adaptive and critical sharpness, and the top eigenvalue."""
    own = tuple(jax.tree.map(lambda x: x[: task.num_measured], train))
    loss = measured_loss(task)
    gradient = jax.grad(loss)(params, *own)
    adaptive = hto.flatness.expected_sharpness(
        loss,
        params,
        args=own,
        key=0,
        stddev=0.05,
        num_samples=30,
        adaptive=True,
        samples_at_once=1,
    )
    critical = hto.flatness.critical_sharpness(loss, params, gradient, args=own)
    eigenvalues = hto.flatness.hessian_eigenvalues(
        loss, params, args=own, key=0, num_matvecs=15
    )
    return {
        "expected_sharpness": sharpness(task, params, train, 30),
        "adaptive_sharpness": adaptive.mean,
        "critical_sharpness": critical.sharpness,
        "top_eigenvalue": eigenvalues.values[0],
    }


def tail_indices(norms: jax.Array, shape: jax.Array) -> dict[str, jax.Array]:
    """Hill's estimates of the norms before and after truncation, shape=(steps, 2)."""
    steps = norms.shape[0]
    middle = slice(steps // 10, 4 * steps // 5)
    sizes = norms[middle] / shape[middle, None]
    k = max(1, sizes.shape[0] // 20)
    before, after = (
        hto.tail_index.hill(sizes[:, column], k=k).estimate for column in (0, 1)
    )
    return {"tail_index_before": before, "tail_index_after": after}
