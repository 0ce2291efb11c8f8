r"""Time and temporary memory of each transformation, beside Optax's nearest ones.

Each transformation's `update` is compiled alone and run on the same trees of gradients.
All are timed in every round, in a new random order, so that a busy machine hits each
alike; a round's ratio is the time over that of the reference in the same round. Printed
are medians over the rounds, and the quartiles of the ratio.

    python benchmarks/transforms.py --out benchmarks/results/transforms.csv

Called alone, the update of a small tree is mostly the handling of arguments and results.
In a compiled loop, as a training step is, that is gone:

    python benchmarks/transforms.py --in-loop --only optax.clip_by_global_norm \
      truncate_update_norm --out benchmarks/results/truncation_in_loop.csv

On leaves of users' shapes, beside the same number of elements in flat leaves:

    python benchmarks/transforms.py --shapes --processor-time --rounds 9 --only optax.add_noise \
      "noise, symmetric_pareto" "noise, student_t" "noise, alpha_stable" \
      "noise, gaussian" "noise, symmetric_pareto, isotropic" \
      --out benchmarks/results/shapes.csv

Bounds that adapt, and one for each leaf, beside one bound and other ways to adapt:

    python benchmarks/transforms.py --in-loop --processor-time --rounds 9 --only \
      optax.clip_by_global_norm truncate_update_norm "truncate_update_norm, adaptive" \
      "truncate_update_norm, a bound a leaf" optax.adaptive_grad_clip \
      "buffer of 10,000 norms" --out benchmarks/results/bounds.csv
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import result_file

import heavytail_optax as hto

ADD_NOISE, CLIP = "optax.add_noise", "optax.clip_by_global_norm"
TRUNCATE = "truncate_update_norm"
CLIP_AND_COUNT = "optax.clip_by_global_norm, with three counters"
BY_WEIGHTS, BUFFER = "optax.adaptive_grad_clip", "buffer of 10,000 norms"


def counters() -> optax.GradientTransformation:
    """Leaves updates alone; its state is as large as that of truncate_update_norm."""

    def update(updates, state, params=None):
        del params
        return updates, [count + 1 for count in state]

    return optax.GradientTransformation(lambda params: [jnp.zeros(())] * 3, update)


class BufferState(NamedTuple):
    """The last norms, and how many there were."""

    norms: jax.Array
    count: jax.Array


def clip_by_past_quantile(share: float, size: int) -> optax.GradientTransformation:
    """Bounds the norm by the quantile of the last ones, as AutoClip does in PyTorch."""

    def init(params):
        del params
        return BufferState(jnp.full(size, jnp.inf), jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        del params
        norm = optax.tree.norm(updates)
        norms = state.norms.at[state.count % size].set(norm)
        count = state.count + 1
        place = (1.0 - share) * (jnp.minimum(count, size) - 1)
        bound = jnp.sort(norms)[jnp.round(place).astype(jnp.int32)]
        factor = jnp.where(norm > bound, bound / norm, 1.0)
        return optax.tree.scale(factor, updates), BufferState(norms, count)

    return optax.GradientTransformation(init, update)


def transformations(
    num_leaves: int = 1,
) -> dict[str, tuple[optax.GradientTransformation, str]]:
    """Name -> (transformation, name of the one to compare it with)."""
    tails = hto.tails

    def noise(tail, direction="elementwise"):
        return hto.add_heavy_tailed_noise(tail, 0.1, key=0, direction=direction)

    return {
        ADD_NOISE: (optax.add_noise(0.1, 0.0, key=0), ADD_NOISE),
        CLIP: (optax.clip_by_global_norm(0.1), CLIP),
        CLIP_AND_COUNT: (optax.chain(optax.clip_by_global_norm(0.1), counters()), CLIP),
        TRUNCATE: (hto.truncate_update_norm(0.1), CLIP),
        f"{TRUNCATE}, adaptive": (
            hto.truncate_update_norm(hto.adaptive_max_norm()),
            TRUNCATE,
        ),
        f"{TRUNCATE}, a bound a leaf": (
            hto.truncate_update_norm([0.1] * num_leaves),
            TRUNCATE,
        ),
        BY_WEIGHTS: (optax.adaptive_grad_clip(0.01), TRUNCATE),
        BUFFER: (clip_by_past_quantile(0.03, 10_000), TRUNCATE),
        "noise, symmetric_pareto": (noise(tails.symmetric_pareto(1.4)), ADD_NOISE),
        "noise, symmetric_pareto, isotropic": (
            noise(tails.symmetric_pareto(1.4), "isotropic"),
            ADD_NOISE,
        ),
        "noise, gaussian": (noise(tails.gaussian()), ADD_NOISE),
        "noise, student_t": (noise(tails.student_t(1.4)), ADD_NOISE),
        "noise, alpha_stable": (noise(tails.alpha_stable(1.4)), ADD_NOISE),
        "inflate_gradient_noise": (
            hto.inflate_gradient_noise(tails.pareto(1.4), 0.5, key=0),
            ADD_NOISE,
        ),
    }


Shapes = list[tuple[int, ...]]

# As users have them; a convolution's kernel in the order of JAX and in PyTorch's.
USERS_SHAPES: dict[str, Shapes] = {
    "last dimension 2": [(2_000_000, 2)],
    "last dimension 3": [(1_300_000, 3)],
    "last dimension 7": [(570_000, 7)],
    "LoRA, rank 2": [(4096, 2), (2, 4096)] * 48,
    "LoRA, rank 4": [(4096, 4), (4, 4096)] * 48,
    "kernels 3x3xIxO": [(3, 3, 256, 256)] * 6,
    "kernels OxIx3x3": [(256, 256, 3, 3)] * 6,
    "embedding": [(50_304, 64)],
    "biases": [(512,)] * 100,
}


def flattened(shapes: Shapes) -> Shapes:
    return [(math.prod(shape),) for shape in shapes]


def arrays(shapes: Shapes) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [
        jax.random.normal(key, shape, jnp.float32)
        for key, shape in zip(keys, shapes, strict=True)
    ]


def gradients(size: int, num_leaves: int) -> list[jax.Array]:
    """`num_leaves` flat arrays with `size` elements together."""
    return arrays([(size // num_leaves,)] * num_leaves)


def compiled_update(transformation, tree, steps: int = 1):
    """`steps` compiled updates, each of the result of the last, and their arguments."""
    state = transformation.init(tree)
    extra = {"gradient_noise": tree}
    update = optax.with_extra_args_support(transformation).update

    def run(tree, state, extra):
        def step(carry, _):
            updates, state = carry
            return update(updates, state, tree, **extra), None

        if steps == 1:
            return step((tree, state), None)[0]
        return jax.lax.scan(step, (tree, state), length=steps)[0]

    compiled = jax.jit(run).lower(tree, state, extra).compile()
    return compiled, (tree, state, extra)


def seconds(compiled, arguments, repeats: int, clock=time.perf_counter) -> float:
    """Seconds a call, averaged over `repeats` calls."""
    start = clock()
    for _ in range(repeats):
        jax.block_until_ready(compiled(*arguments))
    return (clock() - start) / repeats


def seconds_in_rounds(
    runs: Mapping[str, tuple], rounds: int, clock=time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of a call of each (compiled, arguments), in a new random order a round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        seconds(*run, 1)
    # Some 20 ms a measurement, but for the last and largest trees.
    repeats = {name: max(1, int(0.02 / seconds(*run, 3))) for name, run in runs.items()}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(sorted(runs), len(runs)):
            times[name].append(seconds(*runs[name], repeats[name], clock))
    return times


def measure(
    tree: list[jax.Array],
    rounds: int,
    names: list[str],
    in_loop: bool,
    clock: Callable[[], float],
) -> list[dict]:
    """One row a transformation."""
    size = sum(x.size for x in tree)
    # Many, since a call takes microseconds for each array of the state.
    steps = max(3, min(1000, int(1e8 / size))) if in_loop else 1
    known = transformations(len(tree))
    chosen = {name: known[name] for name in names}
    runs, compile_seconds = {}, {}
    for name, (transformation, _) in chosen.items():
        start = time.perf_counter()
        runs[name] = compiled_update(transformation, tree, steps)
        compile_seconds[name] = time.perf_counter() - start
    times = {
        name: [taken / steps for taken in each]
        for name, each in seconds_in_rounds(runs, rounds, clock).items()
    }
    rows = []
    for name, (_, reference) in chosen.items():
        ratios = [
            own / other
            for own, other in zip(times[name], times[reference], strict=True)
        ]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows.append(
            {
                "parameters": size,
                "leaves": len(tree),
                "transformation": name,
                "median_ms": f"{1e3 * statistics.median(times[name]):.4g}",
                "ns_an_element": f"{1e9 * statistics.median(times[name]) / size:.3g}",
                "reference": reference,
                "ratio": f"{middle:.3f}",
                "ratio_lower_quartile": f"{low:.3f}",
                "ratio_upper_quartile": f"{high:.3f}",
                "state_bytes": sum(x.nbytes for x in jax.tree.leaves(runs[name][1][1])),
                "temporary_bytes": runs[name][0].memory_analysis().temp_size_in_bytes,
                "compile_s": f"{compile_seconds[name]:.2f}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10**4, 10**6, 3 * 10**7]
    )
    parser.add_argument("--shapes", action="store_true", help="those of users")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only", nargs="+", default=[*transformations()])
    parser.add_argument(
        "--in-loop",
        action="store_true",
        help="time a compiled loop of updates instead of calls of a compiled update",
    )
    parser.add_argument(
        "--processor-time", action="store_true", help="all threads', on a busy machine"
    )
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    if arguments.shapes:
        trees = [
            ({"shapes": name + kind}, arrays(shapes))
            for name, own in USERS_SHAPES.items()
            for kind, shapes in {"": own, ", flat": flattened(own)}.items()
        ]
    else:
        trees = [({}, gradients(n, m)) for n in arguments.sizes for m in (2, 200)]
    rows = []
    clock = time.process_time if arguments.processor_time else time.perf_counter
    for label, tree in trees:
        for row in measure(
            tree, arguments.rounds, arguments.only, arguments.in_loop, clock
        ):
            print(
                f"{row['parameters']:>9} in {row['leaves']:>3} leaves  "
                f"{label.get('shapes', ''):<24}"
                f"{row['transformation']:<36}{row['median_ms']:>9} ms  ratio "
                f"{row['ratio']} [{row['ratio_lower_quartile']}, "
                f"{row['ratio_upper_quartile']}]  "
                f"temporary {row['temporary_bytes']:>11} B  "
                f"compile {row['compile_s']} s",
                flush=True,
            )
            rows.append(label | row)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
