r"""Training steps a second, beside the same network and batch in PyTorch on the CPU.

A step is plain SGD with all that belongs to it: the batch is drawn without replacement
from 2,600 images and gathered, then loss, gradient and update. Ours is the program that
`heavytail train` runs (`build_trainer`), with its bytes of images, its metrics and, for
the large batch, its microbatches; PyTorch's images are float32 already. Each candidate is
a process of its own that waits while the others run, so that their threads do not meet.
In bfloat16 are matrix products and convolutions only, in PyTorch what its autocast takes.
All are timed in each round, in a new random order; a round's ratio is our time over
PyTorch's in the same round. Needs the extra `bench`.

    python benchmarks/training.py --out benchmarks/results/training.csv

On a machine with other work, PyTorch's threads spin while they wait for one another, and
its time says nothing. What can be compared there is the processor time of one thread:

    python benchmarks/training.py --threads 1 \
      --out benchmarks/results/training_one_thread.csv
"""

import argparse
import importlib.metadata
import importlib.util
import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Literal, NamedTuple

import numpy as np
import result_file

EXAMPLES, LEARNING_RATE = 2600, 0.05


class Case(NamedTuple):
    """What is trained, and for how many steps at a time."""

    model: str
    width: float
    image_shape: tuple[int, int, int]
    batch: int
    steps: int


CASES = (
    Case("lenet", 1.0, (28, 28, 1), 100, 100),
    Case("lenet", 1.0, (28, 28, 1), 1300, 8),
    Case("vgg11", 0.25, (32, 32, 3), 100, 4),
    Case("vgg11", 0.5, (32, 32, 3), 100, 2),
)


class Candidate(NamedTuple):
    """How a step is computed."""

    is_ours: bool
    precision: Literal["float32", "bfloat16"] = "float32"
    is_compiled: bool = False
    is_channels_last: bool = False


OURS = "ours"
CANDIDATES = {
    OURS: Candidate(is_ours=True),
    "ours, bfloat16": Candidate(is_ours=True, precision="bfloat16"),
    "PyTorch": Candidate(is_ours=False),
    "PyTorch, compiled": Candidate(is_ours=False, is_compiled=True),
    "PyTorch, channels last": Candidate(is_ours=False, is_channels_last=True),
    "PyTorch, channels last, bfloat16": Candidate(
        is_ours=False, precision="bfloat16", is_channels_last=True
    ),
}


def data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Random images, as bytes, and labels."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (EXAMPLES, *case.image_shape), np.uint8)
    return images, generator.integers(0, 10, EXAMPLES)


def our_steps(case: Case, candidate: Candidate) -> Callable[[], None]:
    """Takes `case.steps` steps and waits for them."""
    import jax
    import jax.numpy as jnp

    from heavytail_optax.experiments.data.dataset import Split
    from heavytail_optax.experiments.flat_settings import replaced
    from heavytail_optax.experiments.presets import PRESETS
    from heavytail_optax.experiments.training.batches import random_streams
    from heavytail_optax.experiments.training.trainer import build_trainer

    is_large = case.batch > 100
    settings = replaced(
        PRESETS["corrupted-digits"].settings,
        model=case.model,
        width=case.width,
        image_size=case.image_shape[0],
        clean_examples=EXAMPLES,
        corrupted_examples=0,
        batch_size=min(case.batch, 100),
        large_batch_size=case.batch if is_large else None,
        learning_rate=LEARNING_RATE,
        precision=candidate.precision,
    )
    images, labels = data(case)
    train = Split(jnp.asarray(images), jnp.asarray(labels, jnp.int32))
    keys = random_streams(0)
    method = "sgd-large-batch" if is_large else "sgd"
    trainer = build_trainer(replaced(settings, method=method), case.image_shape, 10)
    state = trainer.init(keys)

    def run() -> None:
        nonlocal state
        state = trainer.take_steps(state, keys, train, np.int32(case.steps))
        jax.block_until_ready(state)

    return run


def torch_steps(case: Case, threads: int, candidate: Candidate) -> Callable[[], None]:
    """The same in PyTorch; in bfloat16 by its autocast."""
    import torch
    import torch_networks

    torch.set_num_threads(threads)
    images, labels = data(case)
    pixels = torch.tensor(images.transpose(0, 3, 1, 2)) / 127.5 - 1
    targets = torch.tensor(labels)
    network = torch_networks.build(case.model, case.width)
    if candidate.is_channels_last:
        network = network.to(memory_format=torch.channels_last)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)

    def loss_of(pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        is_bfloat16 = candidate.precision == "bfloat16"
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            logits = network(pixels)
        return torch.nn.functional.cross_entropy(logits.float(), targets)

    loss_function = torch.compile(loss_of) if candidate.is_compiled else loss_of

    def run() -> None:
        for _ in range(case.steps):
            chosen = torch.randperm(EXAMPLES)[: case.batch]
            optimizer.zero_grad(set_to_none=True)
            loss_function(pixels[chosen], targets[chosen]).backward()
            optimizer.step()

    return run


def serve(connection: Connection, name: str, case: Case, threads: int) -> None:
    """Runs steps whenever asked to; answers with wall-clock and CPU seconds a step."""
    # XLA has as many threads as the process has cores.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    candidate = CANDIDATES[name]
    if candidate.is_ours:
        run = our_steps(case, candidate)
    else:
        run = torch_steps(case, threads, candidate)
    for _ in range(2):
        run()
    connection.send("ready")
    while connection.recv():
        # The threads of the one before spin on for up to 0.2 seconds after their work.
        run()
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        connection.send((wall / case.steps, cpu / case.steps))


def measure(case: Case, names: list[str], rounds: int, threads: int) -> dict[str, list]:
    """Name -> (wall-clock, CPU) seconds a step, one pair a round."""
    context = multiprocessing.get_context("spawn")
    workers, connections = [], {}
    for name in names:
        connections[name], theirs = context.Pipe()
        worker = context.Process(target=serve, args=(theirs, name, case, threads))
        worker.start()
        workers.append(worker)
        # One at a time: compiling takes all cores.
        assert connections[name].recv() == "ready"
    times: dict[str, list] = {name: [] for name in names}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(names, len(names)):
            connections[name].send(True)
            times[name].append(connections[name].recv())
    for name, worker in zip(names, workers, strict=True):
        connections[name].send(False)
        worker.join()
    return times


def quartiles(own: list, others: list, which: int) -> list[float]:
    """Of the ratio in the same round: wall-clock (0) or CPU (1) seconds."""
    pairs = zip(own, others, strict=True)
    return statistics.quantiles([a[which] / b[which] for a, b in pairs], n=4)


def rows_of(case: Case, times: dict[str, list], versions: dict[str, str]) -> list[dict]:
    """One row a candidate."""
    rows = []
    for name, pairs in times.items():
        low, middle, high = quartiles(times[OURS], pairs, 0)
        wall = statistics.median(pair[0] for pair in pairs)
        low_cpu, middle_cpu, high_cpu = quartiles(times[OURS], pairs, 1)
        rows.append(
            {
                "model": case.model,
                "width": case.width,
                "batch": case.batch,
                "candidate": name,
                "steps_a_second": f"{1 / wall:.4g}",
                "median_ms": f"{1e3 * wall:.4g}",
                "median_cpu_ms": f"{1e3 * statistics.median(p[1] for p in pairs):.4g}",
                "ours_over_it": f"{middle:.3f}",
                "lower_quartile": f"{low:.3f}",
                "upper_quartile": f"{high:.3f}",
                "ours_over_it_cpu": f"{middle_cpu:.3f}",
                "lower_quartile_cpu": f"{low_cpu:.3f}",
                "upper_quartile_cpu": f"{high_cpu:.3f}",
                **versions,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=2)
    names = list(CANDIDATES)
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    parser.add_argument("--models", nargs="+", default=["lenet", "vgg11"])
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        parser.error("PyTorch is missing: pip install 'heavytail-optax[bench]'.")
    versions = {
        "threads": str(arguments.threads),
        "torch": importlib.metadata.version("torch"),
    }
    rows = []
    for case in CASES:
        if case.model not in arguments.models:
            continue
        times = measure(case, arguments.only, arguments.rounds, arguments.threads)
        for row in rows_of(case, times, versions):
            print(row, flush=True)
            rows.append(row)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
