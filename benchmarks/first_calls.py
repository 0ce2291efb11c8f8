"""Processor time of the first calls of tail estimators, now and at an earlier revision.

Each call runs in a process of its own, in turn with the others, after JAX has compiled
another program. The second call has one draw more. With tailestim installed
(`pip install tailestim`), its double bootstrap is timed, too. Needs Git.

    python benchmarks/first_calls.py --out benchmarks/results/first_calls.csv
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import result_file

PROGRAM = """
import sys, time
import numpy as np
draws = [
    np.abs(np.random.default_rng(0).standard_t(3.0, size=n)).astype(np.float32)
    for n in (10_000, 10_001)
]
name = sys.argv[1]
if name == "tailestim, double bootstrap":
    from tailestim import HillEstimator
    call = lambda x: HillEstimator().fit(x)
else:
    import jax
    import jax.numpy as jnp
    from heavytail_optax import tail_index
    draws = [jnp.asarray(x) for x in draws]
    jax.block_until_ready(jax.jit(lambda x: x + 1.0)(draws[0]))
    calls = {
        "hill": lambda x: tail_index.hill(x, 200),
        "generalised_pareto": lambda x: tail_index.generalised_pareto(x, 500),
        "choose_k_by_distance": tail_index.choose_k_by_distance,
        "choose_k_by_bootstrap": lambda x: tail_index.choose_k_by_bootstrap(x, key=0),
        "extremal_index": lambda x: tail_index.extremal_index(x, 200),
        "assess_tail": tail_index.assess_tail,
    }
    call = lambda x: str(calls[name](x))
for x in draws:
    start = time.process_time()
    call(x)
    print(time.process_time() - start)
"""
ESTIMATORS = (
    "hill",
    "generalised_pareto",
    "choose_k_by_distance",
    "choose_k_by_bootstrap",
    "extremal_index",
    "assess_tail",
)
PEER = "tailestim, double bootstrap"


def seconds(name: str, package: pathlib.Path) -> list[float]:
    """Of the first and the second call in a new interpreter."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    for name_of_other in ("PYTHONPATH", "JAX_COMPILATION_CACHE_DIR"):
        environment.pop(name_of_other, None)
    command = [sys.executable, "-c", PROGRAM, name]
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=package,  # from where the package is imported
    )
    return [float(line) for line in done.stdout.split()]


def has_peer() -> bool:
    """Whether tailestim is installed."""
    command = [sys.executable, "-c", "import tailestim"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def checkout(revision: str, directory: pathlib.Path) -> None:
    """Puts the package of a revision there."""
    archive = subprocess.run(
        ["git", "archive", revision, "heavytail_optax"], check=True, capture_output=True
    )
    subprocess.run(
        ["tar", "-x", "-C", str(directory)], input=archive.stdout, check=True
    )


def measure(before: pathlib.Path, rounds: int) -> list[dict[str, str]]:
    """One row a call."""
    now = pathlib.Path(__file__).resolve().parent.parent
    cases = [(name, path) for name in ESTIMATORS for path in (before, now)]
    if has_peer():
        cases.append((PEER, now))
    times: dict[tuple[str, pathlib.Path], list[list[float]]] = {x: [] for x in cases}
    for _ in range(rounds):
        for case in cases:
            times[case].append(seconds(*case))
    rows = []
    for name, path in cases:
        if path == before:
            continue
        of_now = times[name, now]
        of_before = times.get((name, before), [])
        row = {"call": name}
        for when, found in (("before", of_before), ("now", of_now)):
            for number, label in enumerate(("first", "second")):
                values = [x[number] for x in found]
                text = f"{statistics.median(values):.3f}" if values else ""
                row[f"{label}_{when}_s"] = text
        ratios = [x[0] / y[0] for x, y in zip(of_now, of_before, strict=False)]
        for column, pick in (
            ("ratio", statistics.median),
            ("ratio_lowest", min),
            ("ratio_highest", max),
        ):
            row[column] = f"{pick(ratios):.3f}" if ratios else ""
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default="5ba0a83", help="revision to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        checkout(arguments.before, pathlib.Path(directory))
        rows = measure(pathlib.Path(directory), arguments.rounds)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
