"""One measurement of the flatness benchmark, by this package: printed as JSON."""

import argparse
import json
import pathlib

import numpy as np
from process_timing import limit_threads, timed

STEPS = 12
"""Of Lanczos' algorithm, for the top eigenvalue."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("measure", choices=("eigenvalue", "trace", "density"))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precise", action="store_true")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    # Now that the number of processors is set: XLA starts its threads on import.
    import flatness_networks

    from heavytail_optax import flatness

    loss, params, args = flatness_networks.load(arguments.network, arguments.folder)
    if arguments.batch_size is not None:
        loss = flatness.mean_over_batches(loss, arguments.batch_size)

    def eigenvalue() -> float:
        steps = 100 if arguments.precise else STEPS
        result = flatness.hessian_eigenvalues(
            loss, params, 0, args=args, num_matvecs=steps
        )
        return float(result.values[0])

    def trace() -> float:
        return float(flatness.hessian_trace(loss, params, 0, args=args).mean)

    def density() -> float:
        result = flatness.hessian_density(
            loss, params, 0, args=args, num_samples=1, num_matvecs=100
        )
        return float(np.nansum(np.asarray(result.weights * result.nodes)))

    measures = {"eigenvalue": eigenvalue, "trace": trace, "density": density}
    print(json.dumps(timed(measures[arguments.measure], arguments.rounds)))


if __name__ == "__main__":
    main()
