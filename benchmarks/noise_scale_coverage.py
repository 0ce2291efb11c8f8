"""How often the interval of `gradient_noise_scale` holds the true value.

Each step has eight replicas of one example each, of ten parameters, and the noise of
each parameter is Gaussian, or Student's. The true noise scale is 4, or 400, where the
gradient is lost in the noise of few steps.

    python benchmarks/noise_scale_coverage.py --out benchmarks/results/noise_scale_coverage.csv
"""

import argparse

import jax
import jax.numpy as jnp
import result_file

import heavytail_optax as hto

REPLICAS, PARAMETERS = 8, 10
STUDENT = 3.0, 5.0
PAIRS = 20, 50, 200


def noise(key: jax.Array, df: float, shape: tuple[int, ...]) -> jax.Array:
    """Of variance one."""
    if df == float("inf"):
        return jax.random.normal(key, shape)
    scale = ((df - 2.0) / df) ** 0.5
    return scale * hto.tails.student_t(df).sample(key, shape)


def row(df: float, true: float, pairs: int, samples: int) -> dict[str, str]:
    """One line of the table."""

    def norms(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        gradients = 1.0 + true**0.5 * noise(key, df, (pairs, REPLICAS, PARAMETERS))
        squares = jnp.mean(jnp.sum(gradients**2, axis=-1), axis=-1)
        mean = jnp.mean(gradients, axis=-2)
        return jnp.sqrt(squares), jnp.linalg.norm(mean, axis=-1)

    # A loop: XLA compiles one draw of all numbers for minutes.
    keys = jax.random.split(jax.random.key(pairs), samples)
    small, large = jax.lax.map(norms, keys, batch_size=100)
    found = hto.tail_index.gradient_noise_scale(
        small, large, small_batch_size=1, large_batch_size=REPLICAS
    )
    held = (found.lower <= true) & (true <= found.upper)
    return {
        "noise": "Gaussian" if df == float("inf") else f"Student t, df {df:g}",
        "true_noise_scale": f"{true:g}",
        "pairs": str(pairs),
        "covered": f"{100 * float(jnp.mean(held)):.1f}",
        "infinite_upper_end": f"{100 * float(jnp.mean(jnp.isinf(found.upper))):.1f}",
        "median_estimate": f"{float(jnp.median(found.noise_scale)):.3g}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for df in (float("inf"), *STUDENT):
        for true in (4.0, 400.0):
            for pairs in PAIRS:
                rows.append(row(df, true, pairs, arguments.samples))
                print("  ".join(rows[-1].values()), flush=True)
    result_file.write(arguments.out, rows, arguments.samples)


if __name__ == "__main__":
    main()
