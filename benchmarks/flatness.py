"""Curvature by this package, curvlinops and hessian-eigenthings: time and memory.

The same network with the same weights in JAX and in PyTorch, on the same 100 or 400
examples at once: one product with the Hessian and one with the Gauss-Newton matrix, and
beside them a gradient; on 100 examples also the top eigenvalue (8 Lanczos steps; restarted
until 1e-3 in curvlinops, which is SciPy's there) and the trace (5 random vectors). Each
library has a process, which waits while another one runs, on the last of the processors
that this one may use and with one thread. In every round each measures once untimed, then
timed, in a random order.

`median_ms` is processor time, which other work on the machine disturbs little.
`over_quicker` is the median over rounds of the time over that of the quicker of the two
others in the same round, between `lowest` and `highest`. `over_gradient` is the time in
gradients of the same row. `peak_mib` is by how much resident memory rises in a call.
Compilation is left out. The `value` of a product is its norm.

This package measures all examples at once, and in batches of 50 (`mean_over_batches`), as
`heavytail flatness` does on a CPU.

    pip install "heavytail-optax[bench,experiments]"
    python benchmarks/flatness.py --out benchmarks/results/flatness.csv
"""

import argparse
import importlib.metadata
import importlib.util
import multiprocessing
import os
import pathlib
import random
import statistics
import tempfile
from multiprocessing.connection import Connection

import result_file
from process_timing import Call, limit_threads, serve_each

OURS = {"heavytail_optax": None, "heavytail_optax, in batches of 50": 50}
OTHERS = ("curvlinops", "hessian-eigenthings")
LIBRARIES = (*OURS, *OTHERS)
COUNTS = {"eigenvalue": 8, "trace": 5}
"""Measure -> Lanczos steps, or random vectors."""
PRODUCTS = ("gradient", "hessian", "gauss-newton")
BATCH_SIZES = {100: (*PRODUCTS, *COUNTS), 400: PRODUCTS}
"""Batch size -> what is measured."""
PACKAGES = ("torch", "curvlinops-for-pytorch", "hessian-eigenthings")

Calls = dict[tuple[str, str], list[Call]]


def work(
    connection: Connection, library: str, network: str, folder: pathlib.Path, size: int
) -> None:
    """The process of one library."""
    limit_threads(1)
    if library in OURS:
        import flatness_here

        measures = flatness_here.build(network, folder, size, OURS[library], COUNTS)
    else:
        import torch

        torch.set_num_threads(1)
        import flatness_torch

        measures = flatness_torch.build(library, folder, size, COUNTS)
    serve_each(connection, measures)


def calls_of(network: str, folder: pathlib.Path, size: int, rounds: int) -> Calls:
    """(Library, measure) -> a call in each round."""
    context = multiprocessing.get_context("spawn")
    workers, connections = [], {}
    for library in LIBRARIES:
        connections[library], other = context.Pipe()
        arguments = (other, library, network, folder, size)
        workers.append(context.Process(target=work, args=arguments))
        workers[-1].start()

    def call(library: str, measure: str) -> Call:
        connections[library].send(measure)
        return connections[library].recv()

    order = random.Random(0)
    calls: Calls = {}
    for measure in BATCH_SIZES[size]:
        for library in LIBRARIES:
            call(library, measure)
        for _ in range(rounds):
            for library in order.sample(LIBRARIES, len(LIBRARIES)):
                calls.setdefault((library, measure), []).append(call(library, measure))
    for library, worker in zip(LIBRARIES, workers, strict=True):
        connections[library].send("")
        worker.join()
    return calls


def rows_of(
    network: str, size: int, calls: Calls, versions: dict[str, str]
) -> list[dict[str, str]]:
    """One row a measure and library."""
    rows = []
    for measure in BATCH_SIZES[size]:
        for library in LIBRARIES:
            own = calls[library, measure]
            rounds = zip(own, *(calls[name, measure] for name in OTHERS), strict=True)
            ratios = [
                call.processor / min(other.processor for other in others)
                for call, *others in rounds
            ]
            pairs = zip(own, calls[library, "gradient"], strict=True)
            gradients = [call.processor / other.processor for call, other in pairs]
            median = statistics.median(call.processor for call in own)
            row = {
                "network": network,
                "batch_size": str(size),
                "measure": measure,
                "library": library,
                "median_ms": f"{1e3 * median:.1f}",
                "over_quicker": f"{statistics.median(ratios):.2f}",
                "lowest": f"{min(ratios):.2f}",
                "highest": f"{max(ratios):.2f}",
                "over_gradient": f"{statistics.median(gradients):.2f}",
                "peak_mib": f"{max(call.peak for call in own):.0f}",
                "value": f"{own[-1].value:.5g}",
                **versions,
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    import flatness_networks

    parser = argparse.ArgumentParser(description=__doc__)
    names = [*flatness_networks.NETWORKS]
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks-dir", type=pathlib.Path, help="keeps the networks")
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    if importlib.util.find_spec("curvlinops") is None:
        parser.error("curvlinops is missing: pip install 'heavytail-optax[bench]'.")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for network in arguments.networks:
            folder = (arguments.networks_dir or pathlib.Path(temporary)) / network
            if not folder.exists():
                flatness_networks.train_and_save(network, folder)
            for size in BATCH_SIZES:
                calls = calls_of(network, folder, size, arguments.rounds)
                rows += rows_of(network, size, calls, versions)
                result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
