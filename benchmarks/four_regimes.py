"""Share of time in narrow and in wide minima under light or heavy tails, truncated or not.

What `heavytail simulate` shows, at its defaults, as a table. Chains start evenly at the
four minima of the paper's landscape; time is counted after the first third of the steps.
The last row is gradient descent without noise.

    python benchmarks/four_regimes.py --out benchmarks/results/four_regimes.csv
"""

import argparse

import result_file

from heavytail_optax.laboratory.options import SimulateOptions
from heavytail_optax.laboratory.regimes import run_regimes


def measure(num_steps: int, num_chains: int) -> list[dict]:
    """One row a regime."""
    command = SimulateOptions(steps=num_steps, chains=num_chains)
    noise = command.noise
    return [
        {
            "regime": result.name,
            "narrow_share": f"{result.narrow[0]:.5f}",
            # Chains that never move tell nothing about an error.
            "standard_error": f"{result.narrow[1]:.5f}" if result.moves else "",
            "moves_in_1e6_steps": f"{result.moves:.4g}",
            "learning_rate": command.learning_rate,
            "alpha": noise.alpha,
            "scale": noise.noise_scale,
            "max_norm": noise.max_norm,
            "chains": num_chains,
            "steps": result.steps,
        }
        for result in run_regimes(command, print)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_500_000)
    parser.add_argument("--chains", type=int, default=256)
    parser.add_argument("--out", help="CSV file to write")
    options = parser.parse_args()
    rows = measure(options.steps, options.chains)
    for row in rows:
        print(row)
    result_file.write(options.out, rows, 1)


if __name__ == "__main__":
    main()
