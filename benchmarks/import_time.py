"""Time of `import heavytail_optax` over that of `import optax`.

Each import runs in a process of its own, the two in turn; printed are the medians and
the quartiles of the ratio of neighbours.

    python benchmarks/import_time.py --out benchmarks/results/import_time.csv
"""

import argparse
import statistics
import subprocess
import sys

import result_file

PROGRAM = (
    "import time; start = time.perf_counter(); import {}; "
    "print(time.perf_counter() - start)"
)


def import_seconds(module: str) -> float:
    """Seconds that the import takes in a new interpreter."""
    command = [sys.executable, "-c", PROGRAM.format(module)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    optax, ours = [], []
    for _ in range(arguments.rounds):
        optax.append(import_seconds("optax"))
        ours.append(import_seconds("heavytail_optax"))
    ratios = [b / a for a, b in zip(optax, ours, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    row = {
        "optax_s": f"{statistics.median(optax):.3f}",
        "heavytail_optax_s": f"{statistics.median(ours):.3f}",
        "ratio": f"{middle:.3f}",
        "ratio_lower_quartile": f"{low:.3f}",
        "ratio_upper_quartile": f"{high:.3f}",
    }
    print(row)
    result_file.write(arguments.out, [row], arguments.rounds)


if __name__ == "__main__":
    main()
