"""What truncated heavy-tailed noise does under SGD, AdamW and Muon.

A network of three dense layers learns scikit-learn's handwritten digits: 1,437 images to
train on, 360 to test, batches of 100, 2,000 steps, a learning rate that falls to zero by
a cosine. Each optimiser is used alone, with the truncation, with inflated gradients, and
with noise from a generator behind it. The bound b is measured before the run, with the
learning rate at its start, and has the schedule of the learning rate; or it sets itself,
from nothing (`adaptive_max_norm`). All seeds of a row run at once; a seed has the same
initial weights and batches in all rows.

    python benchmarks/adam.py --out benchmarks/results/adam.csv
    python benchmarks/adam.py --variants "inflated, c 1, adaptive b"

Noise "through it" passes through the optimiser's preconditioner and not into its moments
(`inflate_preconditioned_noise`). It has a table of its own:

    python benchmarks/adam.py --optimizers AdamW Muon --out benchmarks/results/adam_through.csv \
        --variants alone "through it, adaptive b" "through it, gated, adaptive b"

`b` is the mean over seeds, with the smallest and the largest. `cut` is the share of
updates that were truncated, `largest_update` the largest norm of an update before
truncation. `failed` counts runs that are not finite or end with a training accuracy below
50 %. Means are over the other runs, with their standard errors.
"""

import argparse
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import result_file
from sklearn.datasets import load_digits

import heavytail_optax as hto

LAYERS = (64, 128, 128, 10)
TRAIN, BATCH, STEPS = 1437, 100, 2000
MEASURING_STEPS = 300
ALPHA, NOISE = 1.4, 1e-4
OPTIMIZERS = {
    "SGD": (optax.sgd, 0.1),
    "AdamW": (optax.adamw, 1e-3),
    "Muon": (optax.contrib.muon, 5e-3),
}


class Variant(NamedTuple):
    """What is done beside the optimiser.

    Attributes:
      scale: c of tail inflation; 0 for none.
      bound: times the measured b; infinite for no truncation.
      is_adaptive: whether the bound sets itself instead.
      cool_down: whether the last fifth of the steps has no noise.
      noise: scale of the noise behind the optimiser.
      is_noise_scheduled: whether that scale falls with the learning rate.
      through: c of the noise that passes through the optimiser; 0 for none.
      gate: the share of the draws that give none of it.
    """

    scale: float = 0.0
    bound: float = 1.0
    is_adaptive: bool = False
    cool_down: bool = False
    noise: float = 0.0
    is_noise_scheduled: bool = False
    through: float = 0.0
    gate: float = 0.0


VARIANTS = {
    "alone": Variant(bound=np.inf),
    "truncated": Variant(),
    "inflated, c 0.5": Variant(0.5),
    "inflated, c 1": Variant(1.0),
    "inflated, c 1, adaptive b": Variant(1.0, is_adaptive=True),
    "inflated, c 1, last fifth without": Variant(1.0, cool_down=True),
    "noise 1e-4 behind it": Variant(noise=NOISE),
    "noise 1e-4 behind it, on the schedule": Variant(
        noise=NOISE, is_noise_scheduled=True
    ),
}
OF_MUON = dict(list(VARIANTS.items())[:5])  # its steps take longest
THROUGH = {
    "through it, adaptive b": Variant(through=1.0, is_adaptive=True),
    "through it, gated, adaptive b": Variant(through=1.0, gate=0.95, is_adaptive=True),
}
# Noise that does not enter a momentum acts once: as far in all, with this factor.
MEMORY = {"SGD": 1.0, "AdamW": 10.0, "Muon": 20.0}
OF_SGD = {
    "inflated, c 1, b halved": Variant(1.0, 0.5),
    "inflated, c 1, b doubled": Variant(1.0, 2.0),
    "inflated, c 1, not truncated": Variant(1.0, np.inf),
}


FIGURES = (
    "test_accuracy",
    "train_accuracy",
    "train_loss",
    "expected_sharpness",
    "top_eigenvalue",
    "largest_update",
    "cut",
)


def data() -> tuple[jax.Array, jax.Array]:
    """Images and labels in a fixed random order, the training images first."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return jnp.asarray(images[order] / 16.0, jnp.float32), jnp.asarray(labels[order])


def initial(key: jax.Array) -> list[dict[str, jax.Array]]:
    """He's initial weights, and biases of zero."""
    sizes = list(itertools.pairwise(LAYERS))
    keys = jax.random.split(key, len(sizes))
    return [
        {
            "w": jnp.sqrt(2.0 / fan_in) * jax.random.normal(own, (fan_in, fan_out)),
            "b": jnp.zeros(fan_out),
        }
        for own, (fan_in, fan_out) in zip(keys, sizes, strict=True)
    ]


def logits(params: Any, images: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        images = jax.nn.relu(images @ layer["w"] + layer["b"])
    return images @ params[-1]["w"] + params[-1]["b"]


def loss_per_example(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    images, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(
        logits(params, images), labels
    )


def mean_loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    return loss_per_example(params, (images, labels)).mean()


def batch_at(key: jax.Array, images: jax.Array, labels: jax.Array) -> tuple:
    chosen = jax.random.choice(key, TRAIN, (BATCH,), replace=False)
    return images[chosen], labels[chosen]


def gradient(scale: Any) -> Callable:
    return hto.tail_inflated_value_and_grad(
        loss_per_example, hto.tails.pareto(ALPHA), scale
    )


def bounds(name: str, scale: float, seeds: int) -> np.ndarray:
    """The norm that 3 % of the first updates exceed, for each seed."""
    images, labels = data()
    make, rate = OPTIMIZERS[name]
    optimizer, grad_fn = make(rate), gradient(scale)

    @jax.jit
    def step(keys, number, params, state, bound):
        batch = batch_at(jax.random.fold_in(keys[0], number), images, labels)
        grads = grad_fn(jax.random.fold_in(keys[1], number), params, batch)[1]
        updates, state = optimizer.update(grads, state, params)
        truncation = hto.truncate_update_norm(bound)
        updates, own = truncation.update(updates, truncation.init(params))
        return optax.apply_updates(params, updates), state, own.update_norm

    found = []
    for seed in range(seeds):
        init_key, batch_key, noise_key = jax.random.split(jax.random.key(seed), 3)
        keys = jax.random.fold_in(batch_key, STEPS), noise_key
        params, norms = initial(init_key), []
        state = optimizer.init(params)
        for number in range(MEASURING_STEPS):
            # Without truncation training may fail. After ten steps at rest, it is cut
            # to the median so far.
            bound = np.median(norms) if number >= 10 else 0.0
            params, state, norm = step(
                keys, jnp.int32(number), params, state, jnp.float32(bound)
            )
            norms.append(float(norm))
        found.append(np.quantile(norms, 0.97))
    return np.array(found, np.float32)


def trained(name: str, variant: Variant) -> Callable:
    """A function from key and b to the figures of one run."""
    images, labels = data()
    train, test = (images[:TRAIN], labels[:TRAIN]), (images[TRAIN:], labels[TRAIN:])
    make, rate = OPTIMIZERS[name]
    shape = optax.cosine_decay_schedule(1.0, STEPS)
    end = 4 * STEPS // 5 if variant.cool_down else STEPS
    grad_fn = gradient(lambda step: jnp.where(step < end, variant.scale, 0.0))
    split = hto.value_grad_and_noise(loss_per_example)

    def run(key: jax.Array, b: jax.Array) -> dict[str, jax.Array]:
        init_key, batch_key, noise_key = jax.random.split(key, 3)
        links = [make(lambda step: rate * shape(step))]
        if variant.through:
            links[0] = hto.inflate_preconditioned_noise(
                links[0],
                hto.tails.pareto(ALPHA),
                MEMORY[name] * variant.through,
                key=noise_key,
                inflate_above=variant.gate,
            )
        if variant.noise:
            falling = variant.is_noise_scheduled
            links.append(
                hto.add_heavy_tailed_noise(
                    hto.tails.symmetric_pareto(ALPHA),
                    lambda step: variant.noise * (shape(step) if falling else 1.0),
                    key=noise_key,
                )
            )
        bound = variant.bound * b
        links.append(hto.truncate_update_norm(lambda step: bound * shape(step)))
        if np.isinf(variant.bound):
            links[-1] = hto.truncate_update_norm(np.inf)
        if variant.is_adaptive:
            links[-1] = hto.truncate_update_norm(hto.adaptive_max_norm())
        optimizer = optax.chain(*links)

        def step(carry, number):
            params, state = carry
            batch = batch_at(jax.random.fold_in(batch_key, number), *train)
            own_key = jax.random.fold_in(noise_key, number)
            extra = {}
            if variant.through:
                _, grads, extra["gradient_noise"] = split(own_key, params, batch)
            else:
                _, grads = grad_fn(own_key, params, batch, step=number)
            updates, state = optimizer.update(grads, state, params, **extra)
            params = optax.apply_updates(params, updates)
            return (params, state), optax.tree.get(state, "update_norm")

        params = initial(init_key)
        (params, state), norms = jax.lax.scan(
            step, (params, optimizer.init(params)), jnp.arange(STEPS)
        )
        sharpness = hto.flatness.expected_sharpness(
            mean_loss, params, args=train, key=0, stddev=0.01, num_samples=100
        )
        eigenvalues = hto.flatness.hessian_eigenvalues(
            mean_loss, params, args=train, key=0, num_matvecs=30
        )

        def accuracy(images, labels):
            return 100.0 * (logits(params, images).argmax(-1) == labels).mean()

        return {
            "test_accuracy": accuracy(*test),
            "train_accuracy": accuracy(*train),
            "train_loss": mean_loss(params, *train),
            "expected_sharpness": sharpness.mean,
            "top_eigenvalue": eigenvalues[0][0],
            "largest_update": norms.max(),
            "cut": 100.0 * optax.tree.get(state, "num_truncated") / STEPS,
        }

    return run


def measure(name: str, label: str, variant: Variant, b: np.ndarray) -> dict[str, str]:
    """One row: the means over seeds, with standard errors."""
    keys = jax.vmap(jax.random.key)(jnp.arange(len(b)))
    runs = jax.jit(jax.vmap(trained(name, variant)))(keys, jnp.asarray(b))
    runs = {what: np.asarray(values, np.float64) for what, values in runs.items()}
    is_right = np.isfinite(runs["train_loss"]) & (runs["train_accuracy"] >= 50.0)
    used = variant.bound * b
    row = {"optimizer": name, "variant": label, "b": "none"}
    if variant.is_adaptive:
        row["b"] = "sets itself"
    elif np.isfinite(used).all():
        row["b"] = f"{used.mean():.2g} ({used.min():.2g}-{used.max():.2g})"
    for what in FIGURES:
        values = runs[what][is_right]
        error = values.std(ddof=1) / np.sqrt(max(values.size, 1))
        row[what] = f"{values.mean():.3g} ± {error:.1g}" if values.size > 1 else "-"
    return row | {"failed": str(int((~is_right).sum()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-seeds", type=int, default=8)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--variants", nargs="+", help="by default all")
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.optimizers:
        own = {"SGD": VARIANTS | OF_SGD, "Muon": OF_MUON}.get(name, VARIANTS)
        if arguments.variants:
            own = own | THROUGH
        measured: dict[float, np.ndarray] = {}
        for label, variant in own.items():
            if arguments.variants and label not in arguments.variants:
                continue
            scale = 0.5 if variant.scale == 0.5 else 1.0
            b = np.ones(arguments.num_seeds, np.float32)
            if not variant.is_adaptive and np.isfinite(variant.bound):
                if scale not in measured:
                    measured[scale] = bounds(name, scale, arguments.num_seeds)
                b = measured[scale]
            rows.append(measure(name, label, variant, b))
            print(rows[-1], flush=True)
    result_file.write(arguments.out, rows, arguments.num_seeds)


if __name__ == "__main__":
    main()
