"""Time to trace and compile the update of a tree of many leaves, beside Optax's.

Leaves of one shape share work in JAX, so the number of different shapes counts; several
may be given. Each transformation is traced and compiled anew in each round, in a random
order; a round's ratio is the time over that of `optax.add_noise` in the same round. One
round takes two and a half minutes on a core.

    python benchmarks/compile_time.py --rounds 3 --out benchmarks/results/compile_time.csv
"""

import argparse
import random
import statistics
import time

import jax
import jax.numpy as jnp
import result_file
from transforms import ADD_NOISE, transformations

NAMES = (
    ADD_NOISE,
    "noise, symmetric_pareto",
    "noise, symmetric_pareto, isotropic",
    "noise, student_t",
    "noise, alpha_stable",
)


def tree_of(num_leaves: int, num_shapes: int) -> list[jax.Array]:
    """Small matrices of so many different shapes."""
    return [jnp.zeros((8 + i % num_shapes, 16)) for i in range(num_leaves)]


def compile_seconds(transformation, tree) -> float:
    """Seconds from the transformation to its compiled update."""
    state = transformation.init(tree)
    jax.clear_caches()
    start = time.perf_counter()
    jax.jit(lambda tree, state: transformation.update(tree, state)).lower(
        tree, state
    ).compile()
    return time.perf_counter() - start


def measure(num_leaves: int, num_shapes: int, rounds: int) -> list[dict]:
    """One row a transformation."""
    tree = tree_of(num_leaves, num_shapes)
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(NAMES, len(NAMES)):
            transformation, _ = transformations()[name]
            times[name].append(compile_seconds(transformation, tree))
            print(f"{num_shapes} shapes  {name:<36}{times[name][-1]:.1f} s", flush=True)
    rows = []
    for name in NAMES:
        ratios = [a / b for a, b in zip(times[name], times[ADD_NOISE], strict=True)]
        rows.append(
            {
                "leaves": num_leaves,
                "shapes": num_shapes,
                "transformation": name,
                "median_s": f"{statistics.median(times[name]):.2f}",
                "ratio": f"{statistics.median(ratios):.2f}",
                "ratio_lowest": f"{min(ratios):.2f}",
                "ratio_highest": f"{max(ratios):.2f}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=300)
    parser.add_argument("--shapes", type=int, nargs="+", default=[10])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for num_shapes in arguments.shapes:
        for row in measure(arguments.leaves, num_shapes, arguments.rounds):
            print(row, flush=True)
            rows.append(row)
        result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
