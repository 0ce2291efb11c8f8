"""One job on several devices and in several processes.

Each device has a part of a batch, and a copy of all else. JAX aborts a process, with a
stack trace, if the others are late or leave first. So a timer of ours ends the wait for
them, and after an error a process leaves without a handshake.
"""

import contextlib
import dataclasses
import itertools
import os
import signal
import socket
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .errors import USAGE, JobError
from .setting_rules import UNSET, at_least, changed_options, check_fields, message

# The first process serves the others, which abort if it leaves before them.
_FIRST_LEAVES_LATER = 2.0
_JAX_WAITS_LONGER = 60


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One job in several processes, on one or many hosts.

    Start the same command once for each process, with a --directory or --resume that all
    share. On SLURM and on Cloud TPUs say only --distributed: JAX finds coordinator, number
    and id by itself.

    Attributes:
      distributed: This process is one of several.
      coordinator: Host and port of the first process, as HOST:PORT.
      num_processes: Number of processes.
      process_id: Number of this process, from 0.
      join_seconds: How long to wait for the other processes at the start.
    """

    distributed: bool = False
    coordinator: Annotated[str | None, UNSET] = None
    num_processes: Annotated[int | None, at_least(1), UNSET] = None
    process_id: Annotated[int | None, at_least(0), UNSET] = None
    join_seconds: Annotated[int, at_least(1)] = 300

    def __post_init__(self) -> None:
        check_fields(self, "option")
        names = "--coordinator, --num-processes and --process-id"
        number, own = self.num_processes, self.process_id
        missing = self.given.count(None)
        if not self.distributed and (words := [*changed_options(self)]):
            raise ValueError(f"{words[0]}: only with --distributed.")
        if 0 < missing < 3:
            raise ValueError(
                f"{names} must be given together, or none of them where JAX finds them "
                "by itself (SLURM, Cloud TPU)."
            )
        if missing == 0 and self.address is None:
            text = message("coordinator", "HOST:PORT", self.coordinator, "option")
            raise ValueError(text)
        if number is not None and own is not None and own >= number:
            accepted = f"an integer from 0 to {number - 1}"
            raise ValueError(message("process_id", accepted, own, "option"))

    @property
    def given(self) -> tuple[str | None, int | None, int | None]:
        """Coordinator, number and id, each None where JAX is to find it."""
        return self.coordinator, self.num_processes, self.process_id

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the coordinator; None if they are not given as such."""
        host, _, port = (self.coordinator or "").rpartition(":")
        is_port = port.isdecimal() and 0 < int(port) < 2**16
        return (host.strip("[]"), int(port)) if host and is_port else None


def cluster_arguments(cluster: Cluster) -> list[str]:
    """The options that start this process again."""
    options = changed_options(cluster).items()
    words = [[name] if value is True else [name, str(value)] for name, value in options]
    return list(itertools.chain(*words))


ALONE = Cluster()


@contextlib.contextmanager
def join_cluster(
    cluster: Cluster, in_words: Callable[[JobError], str] = str
) -> Iterator[None]:
    """Connects the processes, before JAX is used; an error ends each with its status."""
    if not cluster.distributed:
        yield
        return
    _connect(cluster)
    try:
        yield
    # Whatever it is, the others must not wait for this process.
    except Exception as error:  # noqa: BLE001
        status = error.exit_status if isinstance(error, JobError) else 1
        if isinstance(error, JobError):
            print(in_words(error), file=sys.stderr)
        elif "Gloo" in str(error):
            print(
                "Another process is gone; see its own messages. All up to the last "
                f"checkpoint is kept: go on by --resume. ({error})",
                file=sys.stderr,
            )
        else:
            traceback.print_exception(error)
        if jax.process_index() == 0:
            time.sleep(_FIRST_LEAVES_LATER)
        _leave(status)
    jax.distributed.shutdown()


def _connect(cluster: Cluster) -> None:
    _check_address(cluster)
    timer = threading.Timer(cluster.join_seconds, _give_up, [cluster])
    timer.daemon = True
    timer.start()
    # Python's own handler would wait until all are there.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        jax.distributed.initialize(
            *cluster.given,
            initialization_timeout=cluster.join_seconds + _JAX_WAITS_LONGER,
        )
    except (RuntimeError, ValueError) as error:
        raise JobError(
            f"JAX cannot connect the processes: {error} Give --coordinator, "
            "--num-processes and --process-id."
        ) from error
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, handler)


def _check_address(cluster: Cluster) -> None:
    """JAX would wait long for a wrong host, and abort at a port in use."""
    if cluster.address is None:
        return
    host, port = cluster.address
    try:
        socket.getaddrinfo(host, port)
        if cluster.process_id == 0:
            socket.create_server(("", port)).close()
    except OSError as error:
        raise JobError(
            f"The coordinator {cluster.coordinator} cannot be used: {error.strerror}. "
            "Give another --coordinator.",
            exit_status=USAGE,
        ) from error


def _give_up(cluster: Cluster) -> None:
    print(
        f"After {cluster.join_seconds} seconds (--join-seconds) not all of "
        f"{cluster.num_processes or 'the'} processes are connected to "
        f"{cluster.coordinator or 'the coordinator that JAX found'}, which process 0 "
        "opens. Start all with the same --coordinator and --num-processes, each with "
        "its own --process-id.",
        file=sys.stderr,
    )
    _leave(1)


def _leave(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def from_first_process(number: int) -> int:
    """The number that the first process has, in all of them; waits for all."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def any_process(is_true: bool) -> bool:
    """Whether it is true in at least one process; waits for all."""
    if jax.process_count() == 1:
        return is_true
    return bool(multihost_utils.process_allgather(np.bool_(is_true)).any())


def differs_from_first(text: str) -> bool:
    """Whether this process has another text than the first one; waits for all."""
    checksum = zlib.crc32(text.encode()) >> 1
    return checksum != from_first_process(checksum)


@contextlib.contextmanager
def fail_together() -> Iterator[None]:
    """Raises in all processes if the block fails in one; the block must wait for none."""
    if jax.process_count() == 1:
        yield
        return
    problem = None
    try:
        yield
    # Raised again, when the others know.
    except Exception as error:  # noqa: BLE001
        problem = error
    if any_process(problem is not None):
        raise problem or JobError("Another process cannot go on; it says why.")


_AXIS = "data"


def data_mesh(devices: int | Literal["all"]) -> Mesh | None:
    """The devices that share a batch; None for one device."""
    found = jax.devices()
    number = len(found) if devices == "all" else devices
    there = f"JAX sees {len(found)} {found[0].platform.upper()} "
    there += "device" if len(found) == 1 else "devices"
    if not 1 <= number <= len(found):
        some = "1" if len(found) == 1 else f"an integer from 1 to {len(found)}"
        raise JobError(
            f"The `devices` option must be all or {some}: {there}. Got {devices} instead.",
            exit_status=USAGE,
        )
    if jax.process_count() > 1 and number < len(found):
        raise JobError(
            "The `devices` option must be all with several processes. "
            f"{there} in all of them. Got {devices} instead.",
            exit_status=USAGE,
        )
    if number == 1:
        return None
    return Mesh(np.array(found[:number]), (_AXIS,), axis_types=(AxisType.Auto,))


def replicate(mesh: Mesh | None, tree: Any) -> Any:
    """Puts a whole pytree on each device."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)))
        values = np.asarray(leaf)
        return jax.make_array_from_callback(
            values.shape, sharding, lambda index: values[index]
        )

    return jax.tree.map(put, tree)


def shard_over_devices(
    mesh: Mesh | None, function: Callable[[Any, Any], jax.Array]
) -> Callable[[Any, Any], jax.Array]:
    """The function on all devices, each with a part of the batch (its second argument)."""
    if mesh is None:
        return function
    on_each, by_example = PartitionSpec(), PartitionSpec(_AXIS)
    on_part = jax.shard_map(
        function, mesh=mesh, in_specs=(on_each, by_example), out_specs=by_example
    )

    def sharded(whole: Any, batch: Any) -> jax.Array:
        number = jax.tree.leaves(batch)[0].shape[0]
        # Copies of the last example fill the batch up; their values are dropped.
        filled = np.minimum(np.arange(number + -number % mesh.size), number - 1)
        batch = jax.tree.map(lambda leaf: leaf[filled], batch)
        # Without this the compiler also shards the little work before and after it,
        # and moves the numbers between the devices.
        batch = jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, on_each))
        values = on_part(whole, batch)
        values = jax.lax.with_sharding_constraint(values, NamedSharding(mesh, on_each))
        return values[:number]

    return sharded


def warm_up_collectives(mesh: Mesh | None) -> None:
    """Connects the devices of several processes; waits for all of them."""
    # They would connect at the first all-reduce, after compilation, which may take one
    # process longer than the 30 seconds that Gloo (on CPUs) waits.
    if mesh is None or jax.process_count() == 1:
        return
    send = jax.jit(shard_over_devices(mesh, lambda _, own: own))
    jax.block_until_ready(send(None, replicate(mesh, np.arange(mesh.size))))
