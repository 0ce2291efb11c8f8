"""Processor time of simulations with vectors of 512 bits, over that with 256.

A chunk of `simulate`, one of `first_exit_times`, and a batch of paths of
`rare_exit_rate`. The two widths are processes of their own, one of them with the flag
that keeps the library from asking for 512 bits; they take turns in a new random order.
`is_same` says whether the results are equal, bit for bit. Needs AVX-512.

    python benchmarks/wide_vectors.py --out benchmarks/results/wide_vectors.csv
"""

import argparse
import multiprocessing
import os
import random
import statistics
import zlib
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import jax
import numpy as np
import process_timing
import result_file

import heavytail_optax as hto

FLAGS = {256: "--xla_cpu_prefer_vector_width=256", 512: ""}
LANDSCAPE = hto.dynamics.four_minima()
TAILS = {"Pareto": hto.tails.symmetric_pareto(1.2), "Gauss": hto.tails.gaussian()}
WELLS = hto.dynamics.product_landscape([hto.dynamics.quadratic(1.0, 0.3, 0.4)] * 3)


def process_of(law: str) -> hto.dynamics.Process:
    return hto.dynamics.sgd_process(1e-3, 0.5, TAILS[law], 0.1)


def simulated(law: str, chains: int) -> Callable[[], Any]:
    return lambda: hto.dynamics.simulate(
        *(LANDSCAPE, process_of(law)),
        key=0,
        start=-0.7,
        num_steps=2**22 // chains,
        num_chains=chains,
    )


def in_space() -> Any:
    return hto.dynamics.simulate(
        *(WELLS, process_of("Pareto")),
        key=0,
        start=[0.0, 0.0, 0.0],
        num_steps=1024,
        num_chains=1024,
    )


def first_exits() -> Any:
    return hto.dynamics.first_exit_times(
        *(LANDSCAPE, process_of("Pareto"), 0), key=0, num_exits=500, max_steps=4000
    )


def rare_exits() -> Any:
    return hto.dynamics.rare_exit_rate(
        LANDSCAPE,
        0,
        key=0,
        tail=TAILS["Pareto"],
        scale=0.1,
        learning_rate=1e-5,
        max_norm=0.5,
        num_samples=2048,
    )


CASES: dict[str, Callable[[], Any]] = {
    **{
        f"simulate, {law}, {chains} chains": simulated(law, chains)
        for law in TAILS
        for chains in (256, 1024, 4096)
    },
    "simulate, Pareto, 1024 chains in R^3": in_space,
    "first_exit_times, 500 chains": first_exits,
    "rare_exit_rate, 2048 paths": rare_exits,
}


def checksum(case: str) -> int:
    """Of all numbers of the result."""
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(CASES[case]())]
    return zlib.crc32(b"".join(array.tobytes() for array in arrays))


def answer(case: str, connection: Connection) -> None:
    process_timing.serve(connection, lambda: checksum(case))


def started(case: str, flags: str) -> tuple[multiprocessing.Process, Connection]:
    """A process that measures the case, after its first call."""
    here, there = multiprocessing.Pipe()
    os.environ["XLA_FLAGS"] = flags
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=answer, args=(case, there))
    process.start()
    here.recv()
    return process, here


def row_of(case: str, rounds: int) -> dict[str, Any]:
    processes = {width: started(case, flags) for width, flags in FLAGS.items()}
    order = random.Random(0)
    calls: dict[int, list[process_timing.Call]] = {width: [] for width in FLAGS}
    for _ in range(rounds):
        for width in order.sample(sorted(FLAGS), len(FLAGS)):
            _, connection = processes[width]
            connection.send(True)
            calls[width].append(connection.recv())
    for process, connection in processes.values():
        connection.send(False)
        process.join()
    pairs = zip(calls[512], calls[256], strict=True)
    ratios = [wide.processor / narrow.processor for wide, narrow in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "case": case,
        "cpu_ms_256": f"{1e3 * statistics.median(x.processor for x in calls[256]):.4g}",
        "cpu_ms_512": f"{1e3 * statistics.median(x.processor for x in calls[512]):.4g}",
        "ratio": f"{middle:.3f}",
        "ratio_lower_quartile": f"{low:.3f}",
        "ratio_upper_quartile": f"{high:.3f}",
        "is_same": calls[256][0].value == calls[512][0].value,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for case in arguments.only:
        rows.append(row_of(case, arguments.rounds))
        print(rows[-1], flush=True)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
