r"""Memory and collectives of one update of 1e9 parameters on 256 devices, compiled only.

The parameters are those of a transformer, each weight sharded over all devices as fully
sharded data parallelism does. Nothing is run and no parameter is allocated: arguments
are `jax.ShapeDtypeStruct`s with shardings, on 256 host devices that XLA pretends to
have, and bytes and collectives are read off the compiled program of one device.

    python benchmarks/scale.py --out benchmarks/results/scale.csv
"""

import argparse
import os

NUM_DEVICES = 256
# Before JAX is imported: XLA reads its flags once.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={NUM_DEVICES}"

import jax
import jax.numpy as jnp
import optax
import result_file
from collectives import collectives_by_branch

import heavytail_optax as hto

MIB = 2**20


def transformer(width: int, layers: int, vocabulary: int) -> dict:
    """Shapes of the parameters: embedding, and attention, MLP and norms of each layer."""
    layer = {
        "attention": {name: (width, width) for name in ("q", "k", "v", "out")},
        "mlp": {"up": (width, 4 * width), "down": (4 * width, width)},
        "norms": {"attention": (width,), "mlp": (width,)},
    }
    names = [f"layer_{index}" for index in range(layers)]
    return {"embedding": (vocabulary, width), **dict.fromkeys(names, layer)}


def sharded(shapes: dict) -> dict:
    """Abstract float32 arrays, sharded over all devices along their first dimension."""
    mesh = jax.make_mesh(
        (NUM_DEVICES,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    sharding = jax.NamedSharding(mesh, jax.P("fsdp"))
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def in_words(found: dict[str, list[int]]) -> str:
    """Kinds of collectives, how many of each, and how large they are."""
    words = [
        f"{len(sizes)} {kind} of {max(sizes)} elements"
        for kind, sizes in sorted(found.items())
    ]
    return "; ".join(words) or "none"


def row_of(name: str, transformation, params: dict) -> dict:
    """What the compiled update of one transformation needs on each device."""
    state = jax.eval_shape(transformation.init, params)

    def update(gradient, state, params):
        return transformation.update(gradient, state, params)

    shardings = jax.tree.map(lambda x: x.sharding, params)
    compiled = (
        jax.jit(update, out_shardings=(shardings, None), donate_argnums=0)
        .lower(params, state, params)
        .compile()
    )
    memory = compiled.memory_analysis()
    size = sum(x.size for x in jax.tree.leaves(params))
    always, in_a_branch = collectives_by_branch(compiled.as_text())
    return {
        "transformation": name,
        "parameters": size,
        "leaves": len(jax.tree.leaves(params)),
        "devices": NUM_DEVICES,
        "shard_mib": f"{4 * size / NUM_DEVICES / MIB:.2f}",
        "temporary_mib": f"{memory.temp_size_in_bytes / MIB:.3f}",
        "collectives": in_words(always),
        "in_the_branch": in_words(in_a_branch),
    }


def transformations() -> dict:
    """Name -> transformation."""
    tail = hto.tails.symmetric_pareto(1.4)

    def noise(tail, direction="elementwise"):
        return hto.add_heavy_tailed_noise(tail, 0.1, key=0, direction=direction)

    return {
        "optax.add_noise": optax.add_noise(0.1, 0.0, key=0),
        "optax.clip_by_global_norm": optax.clip_by_global_norm(0.1),
        "noise, symmetric_pareto": noise(tail),
        "noise, alpha_stable": noise(hto.tails.alpha_stable(1.4)),
        "noise, symmetric_pareto, isotropic": noise(tail, "isotropic"),
        "truncate_update_norm": hto.truncate_update_norm(0.1),
        "truncated_heavy_tailed_sgd": hto.truncated_heavy_tailed_sgd(
            0.1, 0.1, tail, 0.1, key=0
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--vocabulary", type=int, default=50_176)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    params = sharded(
        transformer(arguments.width, arguments.layers, arguments.vocabulary)
    )
    rows = []
    for name, transformation in transformations().items():
        rows.append(row_of(name, transformation, params))
        print(rows[-1], flush=True)
    result_file.write(arguments.out, rows, rounds=1)


if __name__ == "__main__":
    main()
