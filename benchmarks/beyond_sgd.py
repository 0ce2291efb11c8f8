r"""The study beyond SGD, as docs/beyond_sgd.md has its protocol: one row a run.

Runs whose row is in the file are skipped, so that the study goes on where it was, on any
machine. An arm is tuned first; the runs that count follow with the pair that was best.

    python benchmarks/beyond_sgd.py --out docs/results/beyond_sgd_runs.csv
    python benchmarks/beyond_sgd.py --out docs/results/beyond_sgd_runs.csv \
        --task lenet --optimizers AdamW --noises 200 --arms alone behind --num-runs 10
    python benchmarks/beyond_sgd.py --task resnet --data-dir FOLDER --out ...

`resnet` needs the images of CIFAR-10, one PNG file each in FOLDER/train/CLASS/ and
FOLDER/test/CLASS/. `benchmarks/beyond_sgd_tables.py` makes the tables.
"""

import argparse
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import beyond_sgd_measures as measures
import beyond_sgd_plan as plan
import beyond_sgd_tasks as tasks
import jax
import jax.numpy as jnp
import result_file
from beyond_sgd_arms import ARMS, OPTIMIZERS, Arm, Hyper, num_steps, program, schedule
from beyond_sgd_bytes import help_topics
from beyond_sgd_resnet import resnet

BUILD = {"lenet": tasks.lenet, "bytes": help_topics, "resnet": resnet}
POINTS = 20


def trained(
    task: tasks.Task, optimizer: str, arm: Arm, steps: int
) -> Callable[..., tuple[Any, jax.Array]]:
    """From seed, data and what is tuned: parameters along the run, and all norms.

    The parameters are those at `POINTS` points, the end among them.
    """

    def run(seed: jax.Array, train: tasks.Split, hyper: Hyper) -> tuple[Any, jax.Array]:
        init_key, batch_key, noise_key = jax.random.split(jax.random.key(seed), 3)
        own = program(task, optimizer, arm, hyper, noise_key)

        def step(carry, number):
            params, state = carry
            batch = task.draw(jax.random.fold_in(batch_key, number), train)
            key = jax.random.fold_in(noise_key, number)
            params, state, norms = own.step(params, state, key, batch, number)
            return (params, state), norms

        def stretch(carry, numbers):
            carry, norms = jax.lax.scan(step, carry, numbers)
            return carry, (carry[0], norms)

        params = task.init(init_key)
        numbers = jnp.arange(steps).reshape(POINTS, -1)
        _, (along, norms) = jax.lax.scan(stretch, (params, own.init(params)), numbers)
        return along, norms.reshape(-1, 2)

    return jax.jit(run)


class Measuring(NamedTuple):
    """Compiled once for all arms: validation, all measures, and those along a run."""

    valid: Callable[[Any, measures.Data], dict[str, Any]]
    final: Callable[[Any, measures.Data, jax.Array], dict[str, Any]]
    along: Callable[[Any, measures.Data], dict[str, Any]]


def measuring(task: tasks.Task) -> Measuring:
    """The functions of a task."""

    def scores(params: Any, data: measures.Data, most: int | None = None) -> dict:
        train = first(data.train, task.num_scored)
        found = {}
        for name, split in (("train", train), ("test", data.test)):
            own = measures.scored(task, params, data.train, first(split, most))
            found |= measures.named(name, own)
        return found

    def valid(params: Any, data: measures.Data) -> dict[str, Any]:
        own = measures.scored(task, params, data.train, data.valid)
        return measures.named("valid", own)

    def final(params: Any, data: measures.Data, norms: jax.Array) -> dict[str, Any]:
        shape = jax.vmap(schedule(len(norms)))(jnp.arange(len(norms)))
        cut = norms[:, 0] > norms[:, 1] * (1.0 + 1e-5)
        return {
            **valid(params, data),
            **scores(params, data),
            **measures.under_shift(task, params, data),
            **measures.flatness(task, params, data.train),
            **measures.tail_indices(norms, shape),
            "cut": 100.0 * cut.mean(),
            "largest_update": norms[:, 0].max(),
        }

    def along(params: Any, data: measures.Data) -> dict[str, Any]:
        found = scores(params, data, measures.SHIFTED)
        kept = {k: x for k, x in found.items() if not k.endswith("calibration_error")}
        kept["expected_sharpness"] = measures.sharpness(task, params, data.train, 10)
        return measures.named("curve", kept)

    return Measuring(jax.jit(valid), jax.jit(final), jax.jit(along))


def first(split: tasks.Split, number: int | None) -> tasks.Split:
    """The first examples; all of them if there is no number."""
    return jax.tree.map(lambda x: x[:number], split)


def measured(
    kind: plan.Kind,
    functions: Measuring,
    data: measures.Data,
    along: Any,
    norms: jax.Array,
) -> dict[str, Any]:
    """All that this kind of run is asked."""
    points = [jax.tree.map(lambda x, i=i: x[i], along) for i in range(POINTS)]
    if kind == "tuning":
        return functions.valid(points[-1], data)
    found = functions.final(points[-1], data, norms)
    if kind == "followed":
        each = [functions.along(point, data) for point in points]
        found |= {name: jnp.stack([x[name] for x in each]) for name in each[0]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--task", choices=BUILD, default="lenet")
    parser.add_argument("--data-dir", type=pathlib.Path)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--noises", nargs="+", help="of the labels; by default all")
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--num-runs", type=int, help="stop after so many")
    parser.add_argument("--steps", type=int, help="of a run, to try the program out")
    arguments = parser.parse_args()
    if arguments.steps is not None and arguments.steps % POINTS:
        parser.error(f"--steps must be a multiple of {POINTS}")
    task = BUILD[arguments.task](arguments.data_dir)
    noises = arguments.noises or tasks.NOISES[arguments.task]

    @functools.lru_cache(maxsize=4)
    def programs(optimizer: str, arm: str) -> Callable:
        steps = arguments.steps or num_steps(task, ARMS[arm])
        return trained(task, optimizer, ARMS[arm], steps)

    functions, clean = measuring(task), measures.data_of(task)
    wanted = functools.partial(
        plan.next_run,
        task=arguments.task,
        num_seeds=task.num_seeds,
        noises=noises,
        optimizers=arguments.optimizers,
        arms=arguments.arms,
    )
    number = 0
    while number != arguments.num_runs:
        own = wanted(plan.rows_in(arguments.out))
        if own is None:
            break
        start = time.perf_counter()
        labels = tasks.with_noise(
            task.train.labels, own.noise, jax.random.key(own.seed + 10_000)
        )
        data = clean._replace(train=clean.train._replace(labels=labels))
        hyper = Hyper(jnp.float32(own.learning_rate), jnp.float32(own.weight_decay))
        run = programs(own.optimizer, own.arm)
        along, norms = run(jnp.int32(own.seed), data.train, hyper)
        found = measured(own.kind, functions, data, along, norms)
        row = own._asdict() | {"data": task.checksum, "steps": len(norms)}
        row |= {what: plan.in_words(value) for what, value in found.items()}
        row |= {"seconds": f"{time.perf_counter() - start:.1f}"}
        row |= result_file.provenance(1)
        plan.append(arguments.out, row)
        number += 1
        print(own, row["valid_accuracy"], row["seconds"], flush=True)


if __name__ == "__main__":
    main()
