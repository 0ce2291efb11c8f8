r"""What noise and truncation cost in a chain, in a loop over a small network.

The network of a reinforcement-learning agent (two hidden layers of 64) is trained for
100 steps in a `lax.scan`, eight seeds at a time by `vmap`. Each optimiser is run alone,
with noise before it, with truncation behind it, and with both. `over_the_parts` is the
time that both add, over the sum of what each adds alone: it is above one if something
is computed twice. Processor time; medians and quartiles over rounds, in each of which
all candidates are run in a new random order.

    python benchmarks/chains.py --out benchmarks/results/chains.csv
"""

import argparse
import itertools
import statistics
import time

import jax
import jax.numpy as jnp
import optax
import result_file
from transforms import seconds_in_rounds

import heavytail_optax as hto

STEPS, SEEDS = 100, 8
NOISE = hto.add_heavy_tailed_noise(hto.tails.symmetric_pareto(1.4), 1e-3, key=0)
CLIP = optax.clip_by_global_norm(0.5)
TRUNCATION = hto.truncate_update_norm(0.25)
OPTIMIZERS = {
    "sgd": optax.sgd(0.05),
    "adam": optax.adam(1e-3),
    "clip, adam": optax.chain(CLIP, optax.adam(1e-3)),
    "adamw": optax.adamw(1e-3),
    "muon": optax.contrib.muon(1e-3),
}


def chains(optimizer: optax.GradientTransformation) -> dict[str, tuple]:
    """What stands around an optimiser -> the compiled run."""
    links = {
        "alone": (optimizer,),
        "noise": (NOISE, optimizer),
        "truncation": (optimizer, TRUNCATION),
        "both": (NOISE, optimizer, TRUNCATION),
    }
    return {name: compiled_run(optax.chain(*own)) for name, own in links.items()}


def initial_params(key: jax.Array) -> dict[str, jax.Array]:
    sizes = (4, 64, 64, 2)
    params = {}
    for layer, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        own = jax.random.fold_in(key, layer)
        params[f"w{layer}"] = 0.1 * jax.random.normal(own, (rows, columns))
        params[f"b{layer}"] = jnp.zeros(columns)
    return params


def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    for layer in range(2):
        x = jnp.tanh(x @ params[f"w{layer}"] + params[f"b{layer}"])
    return jnp.mean((x @ params["w2"] + params["b2"] - 1.0) ** 2)


def compiled_run(optimizer: optax.GradientTransformation) -> tuple:
    """The compiled training of all seeds, and its arguments."""
    x = jax.random.normal(jax.random.key(9), (32, 4))

    def run(key):
        params = initial_params(key)

        def step(carry, _):
            params, state = carry
            grads = jax.grad(loss)(params, x)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        carry = (params, optimizer.init(params))
        return jax.lax.scan(step, carry, length=STEPS)[0][0]

    keys = jax.random.split(jax.random.key(0), SEEDS)
    return jax.jit(jax.vmap(run)).lower(keys).compile(), (keys,)


def microseconds_in_rounds(
    runs: dict[str, tuple], rounds: int
) -> dict[str, list[float]]:
    """Processor time of a step, per candidate and round."""
    times = seconds_in_rounds(runs, rounds, time.process_time)
    return {name: [1e6 * each / STEPS for each in own] for name, own in times.items()}


def row_of(name: str, times: dict[str, list[float]]) -> dict[str, str]:
    ratios = [
        (both - alone) / (noise + truncation - 2 * alone)
        for alone, noise, truncation, both in zip(*times.values(), strict=True)
    ]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "optimizer": name,
        **{f"{key}_us": f"{statistics.median(own):.4g}" for key, own in times.items()},
        "over_the_parts": f"{middle:.3f}",
        "lower_quartile": f"{low:.3f}",
        "upper_quartile": f"{high:.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for name, optimizer in OPTIMIZERS.items():
        times = microseconds_in_rounds(chains(optimizer), arguments.rounds)
        rows.append(row_of(name, times))
        print(rows[-1], flush=True)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
