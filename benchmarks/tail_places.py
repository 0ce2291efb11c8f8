"""Where in a chain heavy-tailed noise survives: the tail index of the update.

A network of three dense layers learns scikit-learn's handwritten digits for 300 steps.
Then its parameters are held, while the optimiser goes on to see batches of 100. So its
updates are draws of one law. Hill's estimate is of their largest 2.5 %; the tail index
of W is 1.4. The noise stands in one of these places:

- `none`;
- `before`: `balanced` inflation of the gradient, c = 1;
- `after the preconditioner`: the same noise, not preconditioned, is added to what the
  optimiser makes of the plain gradient, before the learning rate;
- `through the preconditioner`: `inflate_preconditioned_noise`, c = 1 / (1 - momentum);
- `through it, gated`: the same, for the largest 5 % of the draws;
- `generator, before`, `generator, behind`: elementwise symmetric Pareto noise before the
  optimiser, and behind its learning rate.

    python benchmarks/tail_places.py --out benchmarks/results/tail_places.csv

`largest_to_median` is the largest norm over the median one. Values are medians over
seeds; `lowest` and `highest` are the extremes of the estimate.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import adam
import jax
import jax.numpy as jnp
import numpy as np
import optax
import result_file

import heavytail_optax as hto

WARM_UP, DISCARDED, STEPS = 300, 300, 4000


Place = Callable[[Any, float, float, jax.Array], optax.GradientTransformation]
"""The optimiser with noise, from its preconditioner, rate, memory and key."""

TAIL, SIGNED = hto.tails.pareto(1.4), hto.tails.symmetric_pareto(1.4)
NOISE = 1e-3


def _whole(inner: Any, rate: float) -> optax.GradientTransformation:
    return optax.chain(inner, optax.scale_by_learning_rate(rate))


PLACES: dict[str, Place] = {
    "none": lambda inner, rate, memory, key: _whole(inner, rate),
    "before": (
        lambda inner, rate, memory, key: optax.chain(
            hto.inflate_gradient_noise(TAIL, 1.0, key=key), _whole(inner, rate)
        )
    ),
    "after the preconditioner": (
        lambda inner, rate, memory, key: optax.chain(
            inner,
            hto.inflate_gradient_noise(TAIL, 1.0, key=key),
            optax.scale_by_learning_rate(rate),
        )
    ),
    "through the preconditioner": (
        lambda inner, rate, memory, key: hto.inflate_preconditioned_noise(
            _whole(inner, rate), TAIL, memory, key=key
        )
    ),
    "through it, gated": (
        lambda inner, rate, memory, key: hto.inflate_preconditioned_noise(
            _whole(inner, rate), TAIL, memory, key=key, inflate_above=0.95
        )
    ),
    "generator, before": (
        lambda inner, rate, memory, key: optax.chain(
            hto.add_heavy_tailed_noise(SIGNED, NOISE, key=key), _whole(inner, rate)
        )
    ),
    "generator, behind": (
        lambda inner, rate, memory, key: optax.chain(
            _whole(inner, rate),
            hto.add_heavy_tailed_noise(SIGNED, NOISE * rate, key=key),
        )
    ),
}


def _muon() -> Any:
    """Muon on matrices and Adam on the rest, without the learning rate."""
    return optax.contrib.muon(-1.0, adam_learning_rate=-0.1)


class Optimizer(NamedTuple):
    """Without its learning rate; with how many steps its momentum keeps a gradient."""

    inner: Callable[[], Any]
    rate: float
    memory: float


OPTIMIZERS = {
    "SGD": Optimizer(lambda: optax.identity(), 0.1, 1.0),
    "SGD, momentum": Optimizer(lambda: optax.trace(0.9), 0.03, 10.0),
    "RMSProp": Optimizer(lambda: optax.scale_by_rms(0.99), 1e-3, 1.0),
    "AdamW": Optimizer(
        lambda: optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(1e-2)),
        1e-3,
        10.0,
    ),
    "Adafactor": Optimizer(
        lambda: optax.chain(
            optax.scale_by_factored_rms(min_dim_size_to_factor=32),
            optax.clip_by_block_rms(1.0),
        ),
        1e-3,
        1.0,
    ),
    "Lion": Optimizer(lambda: optax.scale_by_lion(), 1e-4, 10.0),
    "Muon": Optimizer(_muon, 5e-3, 20.0),
}


def norms(
    optimizer: Optimizer, place: Place, key: jax.Array, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Norms of the gradient that the optimiser sees and of its updates."""
    init_key, batch_key, noise_key = jax.random.split(key, 3)
    data = adam.data()
    chain = place(optimizer.inner(), optimizer.rate, optimizer.memory, noise_key)
    plain = _whole(optimizer.inner(), optimizer.rate)
    grad_fn = hto.value_grad_and_noise(adam.loss_per_example)

    def parts(params: Any, number: jax.Array) -> tuple[Any, Any]:
        own = jax.random.fold_in(batch_key, number)
        batch = adam.batch_at(own, *data)
        return grad_fn(own, params, batch)[1:]

    def warm(carry, number):
        params, state = carry
        updates, state = plain.update(parts(params, number)[0], state, params)
        return (optax.apply_updates(params, updates), state), None

    params = adam.initial(init_key)
    (params, _), _ = jax.lax.scan(
        warm, (params, plain.init(params)), jnp.arange(WARM_UP)
    )

    def held(state, number):
        grad, noise = parts(params, number)
        updates, state = chain.update(grad, state, params, gradient_noise=noise)
        return state, (optax.tree.norm(grad), optax.tree.norm(updates))

    numbers = WARM_UP + jnp.arange(DISCARDED + steps)
    _, (of_gradient, of_update) = jax.lax.scan(held, chain.init(params), numbers)
    return of_gradient[DISCARDED:], of_update[DISCARDED:]


def measure(name: str, place: str, seeds: int, steps: int) -> dict[str, str]:
    """One row: medians over seeds."""

    @jax.jit
    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return norms(OPTIMIZERS[name], PLACES[place], key, steps)

    estimates, ratios, indices = [], [], []
    for seed in range(seeds):
        of_gradient, of_update = one(jax.random.key(seed))
        k = max(2, steps // 40)
        estimates.append(float(hto.tail_index.hill(of_update, k=k).estimate))
        indices.append(float(hto.tail_index.hill(of_gradient, k=k).estimate))
        ratios.append(float(of_update.max() / jnp.median(of_update)))
    return {
        "optimizer": name,
        "noise": place,
        "tail_index_of_gradient": f"{np.median(indices):.2f}",
        "tail_index_of_update": f"{np.median(estimates):.2f}",
        "lowest": f"{min(estimates):.2f}",
        "highest": f"{max(estimates):.2f}",
        "largest_to_median": f"{np.median(ratios):.3g}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--places", nargs="+", default=list(PLACES))
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.optimizers:
        for place in arguments.places:
            rows.append(measure(name, place, arguments.num_seeds, arguments.steps))
            print(rows[-1], flush=True)
            result_file.write(arguments.out, rows, arguments.num_seeds)


if __name__ == "__main__":
    main()
