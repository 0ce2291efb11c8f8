"""Ways to keep a training state: time, size, two processes, and what damage does.

    python benchmarks/checkpoints.py --out benchmarks/results/checkpoints.csv
    python benchmarks/checkpoints.py --damage --out benchmarks/results/checkpoints_damage.csv

The first saves and restores the state of a VGG16 of full width with momentum, in one
process and in two of this host with a replicated state, all ways in a random order in
each round. The seconds are medians, between the lowest and the highest;
`save_over_ours` is the median of the ratios within a round. A restored state is compared
bit for bit. The processes of the second kind time the first one of the two.

The second damages one file of a small checkpoint at a time and counts what restoring then
does: `noticed` is an error, `harmless` the state to the last bit, `wrong` another state
without an error, and `died` the end of the process.

- ours: `heavytail_optax.experiments.storage.checkpoints`: `numpy.savez` and a SHA-256
- numpy: `numpy.savez`, whose format has a CRC-32 of each array
- flax: the leaves by `flax.serialization.msgpack_serialize`, behind a SHA-256. (Its
  `to_bytes` refuses the `nnx.State` that the parameters are.)
- orbax_v0: `Checkpointer(StandardCheckpointHandler())`, with a CRC-32 of each array in
  its metadata, as this project had it until November 2026
- orbax_v1: `save` and `load` of `orbax.checkpoint.experimental.v1`
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import result_file
from flax import nnx, serialization
from jax.sharding import NamedSharding, PartitionSpec

from heavytail_optax.experiments.files import replacing
from heavytail_optax.experiments.models.networks import (
    CONFIGURATIONS,
    INITIALISATIONS,
    VGG,
    Layers,
)
from heavytail_optax.experiments.storage.checkpoints import (
    restore_latest,
    save_checkpoint,
)

ROUNDS = 9
DAMAGES_A_FILE = 25
SECONDS = 1200


class Way(NamedTuple):
    """One way: a directory that is not there yet, and the state."""

    save: Callable[[pathlib.Path, Any], None]
    restore: Callable[[pathlib.Path, Any], Any]


def _put(values: np.ndarray, like: jax.Array) -> jax.Array:
    return jax.make_array_from_callback(like.shape, like.sharding, lambda i: values[i])


def _save_numpy(directory: pathlib.Path, state: Any) -> None:
    if jax.process_index() == 0:
        directory.mkdir()
        with replacing(directory / "state.npz") as partial, partial.open("wb") as file:
            np.savez(file, *map(np.asarray, jax.tree.leaves(state)))


def _restore_numpy(directory: pathlib.Path, like: Any) -> Any:
    with np.load(directory / "state.npz", allow_pickle=False) as arrays:
        values = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    leaves, structure = jax.tree.flatten(like)
    for value, leaf in zip(values, leaves, strict=True):
        if (value.dtype, value.shape) != (leaf.dtype, leaf.shape):
            raise ValueError("another state")
    return structure.unflatten(map(_put, values, leaves))


def _save_flax(directory: pathlib.Path, state: Any) -> None:
    if jax.process_index() != 0:
        return
    leaves = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(state))}
    content = serialization.msgpack_serialize(leaves, in_place=True)
    directory.mkdir()
    with replacing(directory / "state") as partial, partial.open("wb") as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)


def _restore_flax(directory: pathlib.Path, like: Any) -> Any:
    data = memoryview((directory / "state").read_bytes())
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        raise ValueError("damaged")
    values = serialization.msgpack_restore(data[32:]).values()
    leaves, structure = jax.tree.flatten(like)
    return structure.unflatten(map(_put, values, leaves))


def _crc32s(state: Any) -> list[int]:
    leaves = jax.tree.leaves(state)
    return [zlib.crc32(np.ascontiguousarray(leaf).view("u1")) for leaf in leaves]


def _save_orbax_v0(directory: pathlib.Path, state: Any) -> None:
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        arguments, checksums = ocp.args.StandardSave(state), {"crc32": _crc32s(state)}
        checkpointer.save(directory, args=arguments, custom_metadata=checksums)


def _restore_orbax_v0(directory: pathlib.Path, like: Any) -> Any:
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        arguments = ocp.args.StandardRestore(abstract)
        state = checkpointer.restore(directory, args=arguments)
        metadata = checkpointer.metadata(directory).custom_metadata
    if metadata["crc32"] != _crc32s(state):
        raise ValueError("damaged")
    return state


def _save_orbax_v1(directory: pathlib.Path, state: Any) -> None:
    import orbax.checkpoint.experimental.v1 as ocp

    ocp.save(directory, state)


def _restore_orbax_v1(directory: pathlib.Path, like: Any) -> Any:
    import orbax.checkpoint.experimental.v1 as ocp

    return ocp.load(directory, like)


def _save_ours(directory: pathlib.Path, state: Any) -> None:
    save_checkpoint(directory, 1, state)


def _restore_ours(directory: pathlib.Path, like: Any) -> Any:
    state = restore_latest(directory, like)
    if state is None:
        raise FileNotFoundError(directory)
    return state


WAYS = {
    "ours": Way(_save_ours, _restore_ours),
    "numpy": Way(_save_numpy, _restore_numpy),
    "flax": Way(_save_flax, _restore_flax),
    "orbax_v0": Way(_save_orbax_v0, _restore_orbax_v0),
    "orbax_v1": Way(_save_orbax_v1, _restore_orbax_v1),
}


def vgg16_state() -> Any:
    """30 million numbers: parameters and momentum."""
    layers = Layers(INITIALISATIONS["fan-out"], "float32", 1.0, nnx.Rngs(0))
    network = VGG(layers, (32, 32, 3), 10, CONFIGURATIONS["vgg16"])
    params = nnx.as_pure(nnx.state(network))
    opt_state = optax.sgd(0.1, momentum=0.9).init(params)
    return {
        "step": jnp.asarray(1, jnp.int32),
        "params": params,
        # Not zeros, which Orbax would compress.
        "opt_state": optax.tree.random_like(jax.random.key(1), opt_state),
    }


def small_state() -> Any:
    """With arrays of 16 KiB and of some bytes."""
    params = {"weight": jnp.zeros((64, 64)), "bias": jnp.zeros(3)}
    return {
        "step": jnp.asarray(1, jnp.int32),
        "params": optax.tree.random_like(jax.random.key(1), params),
        "opt_state": optax.adam(0.1).init(params),
    }


def is_same(state: Any, other: Any) -> bool:
    """To the last bit."""
    if jax.tree.structure(state) != jax.tree.structure(other):
        return False
    return all(
        a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True)
    )


def time_all(folder: pathlib.Path, rounds: int) -> dict[str, list[list[float]]]:
    """For each way, the seconds of each save and of each restore, and the bytes."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    replicated = NamedSharding(mesh, PartitionSpec())
    state = jax.jit(vgg16_state, out_shardings=replicated)()
    like = jax.block_until_ready(jax.tree.map(jnp.zeros_like, state))
    times: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    order = random.Random(0)
    for number in range(-1, rounds):
        for name in order.sample(sorted(WAYS), len(WAYS)):
            directory = folder / f"{name}-{number}"
            _wait_for_all()
            start = time.perf_counter()
            WAYS[name].save(directory, state)
            _wait_for_all()
            saved = time.perf_counter()
            restored = jax.block_until_ready(WAYS[name].restore(directory, like))
            _wait_for_all()
            seconds = (saved - start, time.perf_counter() - saved)
            assert is_same(restored, state), name
            del restored
            files = [path for path in directory.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            _wait_for_all()
            if jax.process_index() == 0:
                shutil.rmtree(directory)
            if number >= 0:
                times[name].append([*seconds, size, len(files)])
    return times


def _wait_for_all() -> None:
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("benchmark")


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def speed_rows(processes: int, rounds: int) -> list[dict[str, str]]:
    """Starts the processes that measure, and sums up."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        common = ("--folder", folder, "--rounds", rounds, "--child", "time")
        children = [
            _start(*common, "--processes", processes, "--process", i, "--port", port)
            for i in range(processes)
        ]
        outputs = [child.communicate(timeout=SECONDS)[0] for child in children]
    times = json.loads(outputs[0].splitlines()[-1])
    ours = times["ours"]
    rows = []
    for name, own in times.items():
        save, restore, size, files = zip(*own, strict=True)
        ratios = [
            [a[i] / b[i] for a, b in zip(own, ours, strict=True)] for i in range(2)
        ]
        rows.append(
            {
                "processes": str(processes),
                "way": name,
                "save_s": _spread(save),
                "restore_s": _spread(restore),
                "save_over_ours": f"{statistics.median(ratios[0]):.2f}",
                "restore_over_ours": f"{statistics.median(ratios[1]):.2f}",
                "megabytes": f"{size[0] / 1e6:.1f}",
                "files": str(files[0]),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _flip(data: bytearray, draw: random.Random) -> bytes:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def _overwrite(data: bytearray, draw: random.Random) -> bytes:
    start = draw.randrange(len(data))
    part = draw.randbytes(min(16, len(data) - start))
    return data[:start] + part + data[start + len(part) :]


DAMAGES: dict[str, Callable[[bytearray, random.Random], bytes | None]] = {
    "flipped bit": _flip,
    "overwritten": _overwrite,
    "cut": lambda data, draw: data[: draw.randrange(len(data))],
    "empty": lambda data, draw: b"",
    "removed": lambda data, draw: None,
}


def damage_cases(folder: pathlib.Path, count: int) -> list[tuple[str, str, int]]:
    """File, damage and seed; what is the same each time comes once."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        (str(path.relative_to(folder)), kind, seed)
        for path in files
        if path.stat().st_size
        for kind in DAMAGES
        for seed in range(1 if kind in ("empty", "removed") else count)
    ]


def restore_damaged(name: str, folder: pathlib.Path, count: int, first: int) -> None:
    """Prints what comes of each case from the first on."""
    way, state = WAYS[name], small_state()
    like = jax.tree.map(jnp.zeros_like, state)
    whole = folder / "whole"
    if first == 0:
        way.save(whole, state)
    for file, kind, seed in damage_cases(whole, count)[first:]:
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        path = copy / file
        data = DAMAGES[kind](bytearray(path.read_bytes()), random.Random(seed))
        path.unlink() if data is None else path.write_bytes(data)
        try:
            outcome = "harmless" if is_same(way.restore(copy, like), state) else "wrong"
        except Exception:  # noqa: BLE001
            outcome = "noticed"
        print(json.dumps([kind, outcome]), flush=True)


def damage_rows(count: int) -> list[dict[str, str]]:
    """A process for each way, and another one whenever it died."""
    rows = []
    for name in WAYS:
        outcomes: Counter[tuple[str, str]] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            options = ("--folder", folder, "--rounds", count, "--child", "damage")
            cases = None
            while cases is None or outcomes.total() < len(cases):
                first = outcomes.total()
                child = _start(*options, "--way", name, "--first", first)
                output = child.communicate(timeout=SECONDS)[0]
                cases = damage_cases(pathlib.Path(folder, "whole"), count)
                outcomes.update(tuple(json.loads(line)) for line in output.splitlines())
                if child.returncode:
                    print(f"{name} ended with status {child.returncode}", flush=True)
                    outcomes[cases[outcomes.total()][1], "died"] += 1
        for kind in DAMAGES:
            results = ("noticed", "harmless", "wrong", "died")
            counts = {result: str(outcomes[kind, result]) for result in results}
            rows.append({"way": name, "damage": kind, **counts})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--damage", action="store_true")
    parser.add_argument("--rounds", type=int, help="or damages of each kind and file")
    parser.add_argument("--out", help="CSV file to write")
    # Of the processes that it starts.
    parser.add_argument("--child", choices=("time", "damage"))
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    parser.add_argument("--port", type=int)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--first", type=int)
    own = parser.parse_args()
    if own.child == "time":
        if own.processes > 1:
            address = f"localhost:{own.port}"
            jax.distributed.initialize(address, own.processes, own.process)
        print(json.dumps(time_all(own.folder, own.rounds)), flush=True)
    elif own.child == "damage":
        restore_damaged(own.way, own.folder, own.rounds, own.first)
    elif own.damage:
        rounds = own.rounds or DAMAGES_A_FILE
        result_file.write(own.out, damage_rows(rounds), rounds)
    else:
        rounds = own.rounds or ROUNDS
        rows = [row for number in (1, 2) for row in speed_rows(number, rounds)]
        result_file.write(own.out, rows, rounds)


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    main()
