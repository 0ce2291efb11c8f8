r"""Where the time of elementwise noise goes: its parts, one after the other.

Each candidate adds to a gradient what the one before it adds, and something more, in one
fused loop. All are timed in each round, in a new random order. The last one is
`optax.add_noise`, beside the bits that it draws. XLA's vectors have 256 bits unless told
otherwise, also where the processor has 512:

    python benchmarks/noise_parts.py --out benchmarks/results/noise_parts.csv
    XLA_FLAGS=--xla_cpu_prefer_vector_width=512 python benchmarks/noise_parts.py \
      --out benchmarks/results/noise_parts_512.csv
"""

import argparse
import os
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
import result_file
from transforms import gradients, seconds_in_rounds

import heavytail_optax as hto
from heavytail_optax._random import random_words, signed_uniform_from_words

PARETO, STABLE = hto.tails.symmetric_pareto(1.4), hto.tails.alpha_stable(1.4)
SKEWED, GAUSSIAN = hto.tails.alpha_stable(1.4, 0.5), hto.tails.gaussian()


def as_float(bits: jax.Array) -> jax.Array:
    """The cheapest use of random bits: as the significand of a float."""
    significand = (bits >> jnp.uint32(9)) | jnp.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(significand, jnp.float32)


def words(key: jax.Array, x: jax.Array) -> jax.Array:
    high, low = random_words(key, x.shape)
    return as_float(high ^ low)


def two_pairs_of_words(key: jax.Array, x: jax.Array) -> jax.Array:
    high, low = random_words(key, x.shape, pair=1)
    return as_float(high ^ low) + words(key, x)


def uniform(key: jax.Array, x: jax.Array) -> jax.Array:
    is_positive, size = signed_uniform_from_words(*random_words(key, x.shape), x.dtype)
    return jnp.where(is_positive, size, -size)


def parts() -> dict[str, Callable]:
    """Name -> function of a key and a tree of two leaves."""

    def each_leaf(draw):
        def run(key, tree):
            keys = jax.random.split(key, len(tree))
            return [x + 0.1 * draw(own, x) for own, x in zip(keys, tree, strict=True)]

        return run

    def update(transformation):
        state = transformation.init(())
        return lambda key, tree: transformation.update(tree, state)[0]

    def noise(tail):
        return update(hto.add_heavy_tailed_noise(tail, 0.1, key=0))

    return {
        "nothing: x + 0.1": each_leaf(lambda key, x: jnp.ones_like(x)),
        "a pair of words": each_leaf(words),
        "a signed uniform": each_leaf(uniform),
        "symmetric_pareto": each_leaf(lambda key, x: PARETO.sample(key, x.shape)),
        "update, symmetric_pareto": noise(PARETO),
        "two pairs of words": each_leaf(two_pairs_of_words),
        "alpha_stable": each_leaf(lambda key, x: STABLE.sample(key, x.shape)),
        "update, alpha_stable": noise(STABLE),
        "update, alpha_stable, skewed": noise(SKEWED),
        "update, gaussian": noise(GAUSSIAN),
        "jax.random.bits": each_leaf(
            lambda key, x: as_float(jax.random.bits(key, x.shape))
        ),
        "jax.random.normal": each_leaf(lambda key, x: jax.random.normal(key, x.shape)),
        "optax.add_noise": update(optax.add_noise(0.1, 0.0, key=0)),
    }


def measure(size: int, rounds: int) -> list[dict]:
    """One row a part."""
    tree = gradients(size, 2)
    arguments = (jax.random.key(1), tree)
    runs = {
        name: (jax.jit(part).lower(*arguments).compile(), arguments)
        for name, part in parts().items()
    }
    times = seconds_in_rounds(runs, rounds)
    rows, reference = [], times["optax.add_noise"]
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, reference, strict=True)]
        low, middle, high = (
            f"{1e9 * value / size:.3g}" for value in statistics.quantiles(own, n=4)
        )
        rows.append(
            {
                "parameters": size,
                "part": name,
                "ns_an_element": middle,
                "lower_quartile": low,
                "upper_quartile": high,
                "ratio_to_add_noise": f"{statistics.median(ratios):.2f}",
                "xla_flags": os.environ.get("XLA_FLAGS", ""),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10**4, 10**6, 3 * 10**7]
    )
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for size in arguments.sizes:
        for row in measure(size, arguments.rounds):
            print(row, flush=True)
            rows.append(row)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
