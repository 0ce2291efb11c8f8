"""Curvature by this package and by PyHessian: time, memory, and how well they agree.

The same network with the same weights in JAX and in PyTorch, on the same images, at
once and in batches of 100: the top eigenvalue, the trace (100 random vectors each) and
the spectral density (100 Lanczos steps from one vector). Each measurement runs in a
process of its own, the two libraries in turn.

`first_processor_s` is the first call, compilation included; `processor_s` and `wall_s`
are medians of later ones. With `--threads 1`, the default, the processor time can be
compared on a machine that has other work, where the wall time cannot. `peak_mib` is the
resident memory at its peak, above what it was with network and data loaded. The top
eigenvalue is by 12 Lanczos steps here and, in PyHessian, by power iteration until two
values agree to 1e-3, its default; `relative_error` is the distance of each to 100
Lanczos steps. The `value` of a trace has a sampling error of some percent, and that of
the density is its mean, one sample of trace over number of parameters. Two defects of
PyHessian are worked around: `torch.eig`, which PyTorch no longer has, is replaced by
`torch.linalg.eigh`, and its trace is kept from stopping early.

    pip install "heavytail-optax[bench,experiments,flatness]"
    python benchmarks/flatness.py --out benchmarks/results/flatness.csv
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import flatness_networks
import result_file

MEASURES = ("eigenvalue", "trace", "density")
BATCH_SIZE = 100
HERE = pathlib.Path(__file__).resolve().parent


def run(script: str, *arguments: str) -> dict[str, float]:
    """What one measurement prints."""
    command = [sys.executable, "-W", "ignore", str(HERE / script), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(
    network: str, folder: str, rounds: int, threads: int
) -> list[dict[str, str]]:
    """All measurements of one network."""
    options = ("--rounds", "0", "--batch-size", str(BATCH_SIZE), "--precise")
    precise = run("flatness_here.py", network, folder, "eigenvalue", *options)["value"]
    rows = []
    for measure in MEASURES:
        for batch in ("all", str(BATCH_SIZE)):
            shared = [folder, measure, "--rounds", str(rounds)]
            shared += ["--threads", str(threads)]
            if batch != "all":
                shared += ["--batch-size", batch]
            for library, found in (
                ("heavytail_optax", run("flatness_here.py", network, *shared)),
                ("pyhessian", run("flatness_pyhessian.py", *shared)),
            ):
                error = found["value"] / precise - 1.0
                row = {
                    "network": network,
                    "measure": measure,
                    "batch": batch,
                    "library": library,
                    "threads": str(threads),
                    "first_processor_s": f"{found['first_processor_s']:.2f}",
                    "processor_s": f"{found['processor_s']:.3f}",
                    "wall_s": f"{found['wall_s']:.3f}",
                    "peak_mib": f"{found['peak_mib']:.0f}",
                    "value": f"{found['value']:.6g}",
                    "relative_error": f"{error:.1e}" * (measure == "eigenvalue"),
                }
                print(row, flush=True)
                rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--networks", nargs="+", default=list(flatness_networks.NETWORKS)
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for network in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            flatness_networks.train_and_save(network, pathlib.Path(folder))
            rows += rows_of(network, folder, arguments.rounds, arguments.threads)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
