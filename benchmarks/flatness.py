"""Curvature by this package and by PyHessian: time, memory, and how well they agree.

The same network with the same weights in JAX and in PyTorch, on the same images, at
once and in batches: the top eigenvalue, the trace (20 random vectors each) and the
spectral density (25 Lanczos steps from one vector). The two libraries have a process
each, which waits while the other one runs; each measures once untimed, then timed, in
every round, in a random order.

`first_s` is the first call, compilation included; `median_s` and `median_cpu_s` are of
later ones, on the clock and on all processors together. `ours_over_it` is the median over
rounds of our time over that of the same round, between `lowest` and `highest`.
`first_peak_mib` and `peak_mib` are by how much resident memory rises in the first call,
which loads and compiles what it needs, and in later ones.

The top eigenvalue is by 8 Lanczos steps here and, in PyHessian, by power iteration
until two values agree to 1e-3, its default; `relative_error` is the distance of each to
100 Lanczos steps. The `value` of a trace has a sampling error of some percent, and that
of the density is its mean, one sample of trace over number of parameters. Two defects of
PyHessian are worked around: `torch.eig`, which PyTorch no longer has, is replaced by
`torch.linalg.eigh`, and its trace is kept from stopping early.

    pip install "heavytail-optax[bench,experiments]"
    python benchmarks/flatness.py --out benchmarks/results/flatness.csv
"""

import argparse
import importlib.metadata
import importlib.util
import multiprocessing
import pathlib
import random
import statistics
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

import result_file
from process_timing import Call, limit_threads, serve

COUNTS = {"eigenvalue": 8, "trace": 20, "density": 25}
"""Measure -> Lanczos steps, or random vectors."""
PRECISE_COUNT = 100
OURS, THEIRS = "heavytail_optax", "PyHessian"


class Case(NamedTuple):
    """What is measured."""

    network: str
    measure: str
    batch_size: int | None


def work(
    connection: Connection, library: str, folder: pathlib.Path, case: Case, threads: int
) -> None:
    """The process of one library."""
    limit_threads(threads)
    count = COUNTS[case.measure]
    if library == OURS:
        import flatness_here

        measure = flatness_here.build(
            case.network, folder, case.measure, case.batch_size, count
        )
    else:
        import flatness_pyhessian

        measure = flatness_pyhessian.build(
            folder, case.measure, case.batch_size, count, threads
        )
    serve(connection, measure)


def calls_of(
    case: Case, folder: pathlib.Path, rounds: int, threads: int
) -> dict[str, list[Call]]:
    """Library -> its first call, and one a round."""
    context = multiprocessing.get_context("spawn")
    names = [OURS, THEIRS]
    workers, connections = [], {}
    calls: dict[str, list[Call]] = {}
    for name in names:
        connections[name], other = context.Pipe()
        worker = context.Process(target=work, args=(other, name, folder, case, threads))
        worker.start()
        workers.append(worker)
        # One at a time: compiling takes all cores.
        calls[name] = [connections[name].recv()]
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(names, len(names)):
            connections[name].send(True)
            calls[name].append(connections[name].recv())
    for name, worker in zip(names, workers, strict=True):
        connections[name].send(False)
        worker.join()
    return calls


def rows_of(
    case: Case, calls: dict[str, list[Call]], precise: float, versions: dict[str, str]
) -> list[dict[str, str]]:
    """One row a library."""
    rows = []
    for library, (first, *later) in calls.items():
        pairs = zip(calls[OURS][1:], later, strict=True)
        ratios = [own.wall / call.wall for own, call in pairs]
        error = later[-1].value / precise - 1.0
        rows.append(
            {
                "network": case.network,
                "measure": case.measure,
                "images_at_once": str(case.batch_size or "all"),
                "library": library,
                "first_s": f"{first.wall:.2f}",
                "median_s": f"{statistics.median(c.wall for c in later):.3f}",
                "median_cpu_s": f"{statistics.median(c.processor for c in later):.3f}",
                "ours_over_it": f"{statistics.median(ratios):.2f}",
                "lowest": f"{min(ratios):.2f}",
                "highest": f"{max(ratios):.2f}",
                "first_peak_mib": f"{first.peak:.0f}",
                "peak_mib": f"{max(c.peak for c in later):.0f}",
                "value": f"{later[-1].value:.6g}",
                "relative_error": f"{error:.1e}" * (case.measure == "eigenvalue"),
                **versions,
            }
        )
        print(rows[-1], flush=True)
    return rows


def rows_of_network(
    network: str, batch_sizes: Sequence[int | None], rounds: int, threads: int
) -> list[dict[str, str]]:
    """All measurements of one network, which is trained before."""
    import flatness_here
    import flatness_networks

    versions = {
        "threads": str(threads),
        **{name: importlib.metadata.version(name) for name in ("torch", "pyhessian")},
    }
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        flatness_networks.train_and_save(network, folder)
        precise = flatness_here.build(
            network, folder, "eigenvalue", min(filter(None, batch_sizes)), PRECISE_COUNT
        )()
        for measure in COUNTS:
            for batch_size in batch_sizes:
                case = Case(network, measure, batch_size)
                calls = calls_of(case, folder, rounds, threads)
                rows += rows_of(case, calls, precise, versions)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["lenet", "vgg11-eighth"])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[50])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    if importlib.util.find_spec("pyhessian") is None:
        parser.error("PyHessian is missing: pip install 'heavytail-optax[bench]'.")
    rows = []
    for network in arguments.networks:
        rows += rows_of_network(
            network,
            [None, *arguments.batch_sizes],
            arguments.rounds,
            arguments.threads,
        )
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
