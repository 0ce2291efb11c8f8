"""Several seeds at once through `jax.vmap`, beside one after the other.

    python benchmarks/seeds_at_once.py --out benchmarks/results/seeds_at_once.csv

Both take the same steps of the LeNet on corrupted digits, in a new random order in each
round; what counts is the ratio of times in the same round.
"""

import argparse
import inspect
import random
import statistics
import time

import jax
import jax.numpy as jnp
import result_file

from heavytail_optax.experiments.data.dataset import Split, with_random_labels
from heavytail_optax.experiments.data.loading import read_dataset
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.programs import compiled
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.trainer import build_trainer


def measure(method: str, seeds: int, steps: int, rounds: int) -> dict[str, str]:
    """Seconds a step and seed, both ways."""
    settings = PRESETS["corrupted-digits"].settings
    keys = [random_streams(seed) for seed in range(seeds)]
    dataset, clean = read_dataset(settings.data), settings.data.clean_examples
    splits = [with_random_labels(dataset, own.labels, clean).train for own in keys]
    trainer = build_trainer(
        replaced(settings, method=method), splits[0].images.shape[1:], 10
    )
    states = [trainer.init(own) for own in keys]
    number = jnp.int32(steps)

    def stack(trees: list) -> object:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    # The images are the same for all seeds, the labels are not.
    split_axes = Split(None, 0)
    # Its own options of the compiler are for a program that no other one calls.
    take_steps = inspect.unwrap(trainer.take_steps)
    at_once = compiled(
        jax.vmap(take_steps, in_axes=(0, 0, split_axes, None)), donate_argnums=0
    )
    stacked, all_keys = stack(states), stack(keys)
    all_splits = Split(splits[0].images, jnp.stack([s.labels for s in splits]))

    def one_by_one() -> None:
        for seed in range(seeds):
            states[seed] = trainer.take_steps(
                states[seed], keys[seed], splits[seed], number
            )
        jax.block_until_ready(states)

    def together() -> None:
        nonlocal stacked
        stacked = at_once(stacked, all_keys, all_splits, number)
        jax.block_until_ready(stacked)

    ways = {"one_by_one": one_by_one, "together": together}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(sorted(ways), 2):
            start = time.perf_counter()
            ways[name]()
            times[name].append((time.perf_counter() - start) / steps / seeds)
    ratios = [
        own / other
        for own, other in zip(times["together"], times["one_by_one"], strict=True)
    ]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "method": method,
        "seeds": str(seeds),
        "one_by_one_ms": f"{1e3 * statistics.median(times['one_by_one']):.2f}",
        "together_ms": f"{1e3 * statistics.median(times['together']):.2f}",
        "ratio": f"{middle:.2f}",
        "ratio_lower_quartile": f"{low:.2f}",
        "ratio_upper_quartile": f"{high:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for method, steps in (("sgd", 40), ("balanced", 40), ("shared", 5)):
        for seeds in (2, 3):
            rows.append(measure(method, seeds, steps, arguments.rounds))
            print(rows[-1], flush=True)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
