"""Time and memory of a training step with a tail-inflated gradient.

A step is the gradient, the learning rate and the truncation, compiled as one program.
Compared are plain SGD; the three gradients of the formula from three backward passes,
combined; each scheme of `tail_inflated_grad`; `independent` in one pass, too; and
`independent` behind a gate at its 0.95 quantile (the mean over keys, of which one in
twenty opens it). All are timed in every round, in a new random order. Times are of the
processor, all threads together; ratios are of the same round.

    python benchmarks/tail_inflation.py --out benchmarks/results/tail_inflation.csv
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import result_file
from flax import nnx

import heavytail_optax as hto
from heavytail_optax._keys import tagged_key
from heavytail_optax.experiments.models.networks import (
    CONFIGURATIONS,
    INITIALISATIONS,
    VGG,
    Layers,
    LeNet,
)

TAIL, SCALE, SMALL = hto.tails.pareto(1.4), 0.5, 100


def problem(name: str) -> tuple[Callable, Any, Callable]:
    """Per-example loss, parameters, and a function to a batch of some size."""
    rngs, law = nnx.Rngs(0), INITIALISATIONS["he"]
    if name == "lenet":
        shape = (28, 28, 1)
        model = LeNet(Layers(law, "float32", 1.0, rngs), shape, 10)
    else:
        shape, blocks = (32, 32, 3), CONFIGURATIONS["vgg11"]
        model = VGG(Layers(law, "float32", 0.125, rngs), shape, 10, blocks)
    graphdef, params = nnx.split(model)

    def loss_per_example(params, batch):
        images, labels = batch
        logits = nnx.merge(graphdef, params)(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    def batch_of(size):
        images_key, labels_key = jax.random.split(jax.random.key(size))
        images = jax.random.normal(images_key, (size, *shape))
        return images, jax.random.randint(labels_key, (size,), 0, 10)

    return loss_per_example, nnx.as_pure(params), batch_of


def three_passes(loss_per_example: Callable) -> Callable:
    """The formula as it is written, with a backward pass for each gradient."""

    def mean_loss(params, batch):
        return jnp.mean(loss_per_example(params, batch))

    def grad_fn(key, params, small, second, large):
        value, of_small = jax.value_and_grad(mean_loss)(params, small)
        of_second = jax.grad(mean_loss)(params, second)
        of_large = jax.grad(mean_loss)(params, large)
        z = SCALE * TAIL.sample(key)
        grad = jax.tree.map(
            lambda s, t, v: s + z * (t - v), of_small, of_second, of_large
        )
        return value, grad

    return grad_fn


def methods(loss_per_example: Callable, batch_of: Callable, large: int) -> dict:
    """Name -> (gradient function, its batches, examples a step)."""

    def inflated(scheme, gate=0.0, microbatch_size=None):
        return hto.tail_inflated_value_and_grad(
            loss_per_example,
            TAIL,
            SCALE,
            scheme=scheme,
            inflate_above=gate,
            microbatch_size=microbatch_size,
        )

    def plain(key, params, small):
        del key
        mean_loss = lambda p: jnp.mean(loss_per_example(p, small))
        return jax.value_and_grad(mean_loss)(params)

    small, second, big = batch_of(SMALL), batch_of(SMALL + 1), batch_of(large)
    second = jax.tree.map(lambda x: x[:SMALL], second)
    everything = SMALL + SMALL + large
    gated = SMALL + 0.05 * (SMALL + large)
    return {
        "plain SGD": (plain, (small,), SMALL),
        "three passes": (
            three_passes(loss_per_example),
            (small, second, big),
            everything,
        ),
        "independent": (inflated("independent"), (small, second, big), everything),
        "independent, in one pass": (
            inflated("independent", microbatch_size=everything),
            (small, second, big),
            everything,
        ),
        "shared": (inflated("shared"), (small, big), SMALL + large),
        "balanced": (inflated("balanced"), (small,), SMALL),
        "independent, gated": (
            inflated("independent", 0.95),
            (small, second, big),
            gated,
        ),
    }


def compiled_step(grad_fn: Callable, params: Any, batches: tuple) -> Callable:
    """The compiled step, as a function of a key."""
    optimizer = optax.chain(optax.sgd(0.05), hto.truncate_update_norm(0.25))
    state = optimizer.init(params)

    def step(key, params, state, batches):
        loss, grad = grad_fn(key, params, *batches)
        updates, state = optimizer.update(grad, state, params)
        return optax.apply_updates(params, updates), state, loss

    compiled = jax.jit(step).lower(jax.random.key(0), params, state, batches).compile()
    return compiled, lambda key: compiled(key, params, state, batches)


def draw_key(key: jax.Array) -> jax.Array:
    """The key that `tail_inflated_grad` draws W with in the step of `key`."""
    return jax.random.split(tagged_key(key, "tail_inflated_grad"))[0]


def measure(name: str, large: int, rounds: int) -> list[dict]:
    """One row a method."""
    loss_per_example, params, batch_of = problem(name)
    runs, times, memory, examples = {}, {}, {}, {}
    for method, (grad_fn, batches, count) in methods(
        loss_per_example, batch_of, large
    ).items():
        compiled, runs[method] = compiled_step(grad_fn, params, batches)
        memory[method] = compiled.memory_analysis().temp_size_in_bytes
        examples[method] = count
        times[method] = []
        jax.block_until_ready(runs[method](jax.random.key(0)))
    # The same share of open gates in each round as over all keys.
    keys = [jax.random.key(seed) for seed in range(2000)]
    above = [
        bool(TAIL.sample(draw_key(key)) > TAIL.quantile(0.95)) for key in keys[:200]
    ]
    opened = next(key for key, is_above in zip(keys, above, strict=False) if is_above)
    closed = [key for key, is_above in zip(keys, above, strict=False) if not is_above]
    round_keys = [opened, *closed[:19]]
    order = random.Random(0)
    for _ in range(rounds):
        for method in order.sample(sorted(runs), len(runs)):
            used = round_keys if "gated" in method else round_keys[:4]
            start = time.process_time()
            for key in used:
                jax.block_until_ready(runs[method](key))
            times[method].append((time.process_time() - start) / len(used))

    def ratio(method, reference):
        pairs = zip(times[method], times[reference], strict=True)
        return statistics.quantiles([own / other for own, other in pairs], n=4)

    rows = []
    for method in runs:
        to_sgd, to_three = ratio(method, "plain SGD"), ratio(method, "three passes")
        rows.append(
            {
                "model": name,
                "small": SMALL,
                "large": large,
                "method": method,
                "examples_a_step": examples[method],
                "median_cpu_ms": f"{1e3 * statistics.median(times[method]):.4g}",
                "to_plain_sgd": f"{to_sgd[1]:.3f}",
                "to_plain_sgd_quartiles": f"{to_sgd[0]:.3f}-{to_sgd[2]:.3f}",
                "to_three_passes": f"{to_three[1]:.3f}",
                "to_three_passes_quartiles": f"{to_three[0]:.3f}-{to_three[2]:.3f}",
                "temporary_MB": f"{memory[method] / 1e6:.1f}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for name, large in (("lenet", 256), ("lenet", 1200), ("vgg11, 1/8 width", 256)):
        for row in measure(name, large, arguments.rounds):
            print(row, flush=True)
            rows.append(row)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
