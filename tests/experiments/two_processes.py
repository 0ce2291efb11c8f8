"""One of two processes with two devices each: `test_multi_process.py` starts them."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.storage import checkpoints


def main(port, process, task, directory):
    jax.config.update("jax_num_cpu_devices", 2)
    if task != "alone":
        jax.distributed.initialize(f"localhost:{port}", 2, int(process))
        assert jax.process_count() == 2
        assert jax.device_count() == 4
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    replicated = NamedSharding(mesh, PartitionSpec())

    def make(step):
        state = {"weight": jnp.arange(1000.0) * step, "step": jnp.asarray(step)}
        return state

    make_replicated = jax.jit(make, out_shardings=replicated)
    if task == "refuse":
        refuse(directory, make_replicated)
        return
    notes = []
    if task == "save":
        for step in range(4):
            checkpoints.save_checkpoint(directory, step, make_replicated(step))
    restored = checkpoints.restore_latest(directory, make_replicated(0), notes.append)
    step = int(restored["step"])
    for leaf in jax.tree.leaves(restored):
        assert leaf.sharding.is_equivalent_to(replicated, leaf.ndim)
    weight = restored["weight"]
    assert len(weight.addressable_shards) == 2
    for shard in weight.addressable_shards:
        expected = np.arange(1000, dtype=np.float32) * step
        np.testing.assert_array_equal(shard.data, expected)
    if task == "restore":
        checkpoints.save_checkpoint(directory, 3, make_replicated(3))
    counted = "" if task == "save" else f", notes {len(notes)}"
    print(f"restored {step}{counted}", flush=True)


def refuse(directory, make_replicated):
    """Where one process fails, both have an error, and none waits for the other."""
    like = make_replicated(0)
    other = {**like, "bias": like["step"]} if jax.process_index() == 1 else like
    for work in (
        # One process has other settings.
        lambda: checkpoints.restore_latest(directory, other),
        # The one that writes cannot.
        lambda: checkpoints.save_checkpoint(directory / "3.npz", 4, like),
    ):
        try:
            work()
        except (JobError, OSError):
            continue
        raise AssertionError("It was not refused.")
    print("refused", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4]))
