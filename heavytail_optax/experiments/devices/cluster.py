"""One job in several processes: how they find together, and how they part.

JAX's own ends are hard: it aborts a process, with a stack trace, whose peers do not come
in time, and one whose peer left without it. So the waiting has a watch of its own, and
after an error a process leaves without the handshake that the others would miss.
"""

import contextlib
import dataclasses
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from heavytail_optax.experiments.errors import JobError

# The first process serves the others: gone before them, it would take them with it.
_FIRST_LEAVES_LATER = 2.0
_JAX_WAITS_LONGER = 60


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One job in several processes, on one or many hosts.

    Start the same command once for each process, with a shared --run-dir or --resume.
    On SLURM and on Cloud TPUs JAX finds coordinator, number and id by itself: say only
    --distributed.

    Attributes:
      distributed: This process is one of several.
      coordinator: Host and port of the first process, as HOST:PORT.
      num_processes: Number of processes.
      process_id: Number of this process, from 0.
      join_seconds: How long to wait for the other processes at the start.
    """

    distributed: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    join_seconds: int = 300


ALONE = Cluster()


class ClusterError(JobError):
    """The processes do not find together."""


def check_cluster(cluster: Cluster) -> None:
    """Refuses options that do not fit together."""
    given = (cluster.coordinator, cluster.num_processes, cluster.process_id)
    is_given = [value is not None for value in given]
    names = "--coordinator, --num-processes and --process-id"
    if not cluster.distributed:
        if any(is_given):
            raise ClusterError(f"{names} need --distributed.")
        return
    if cluster.join_seconds < 1:
        raise _bad("join_seconds", "a positive integer", cluster.join_seconds)
    if not any(is_given):
        return
    if not all(is_given):
        raise ClusterError(
            f"{names} must be given together, or none of them where JAX finds them by "
            "itself (SLURM, Cloud TPU)."
        )
    if _host_and_port(cluster) is None:
        raise _bad("coordinator", "HOST:PORT", cluster.coordinator)
    number, own = cluster.num_processes, cluster.process_id
    if number < 1:
        raise _bad("num_processes", "a positive integer", number)
    if not 0 <= own < number:
        raise _bad("process_id", f"an integer from 0 to {number - 1}", own)


def cluster_arguments(cluster: Cluster) -> list[str]:
    """What to type for a process of the same cluster, at the same place in it.

    Example:
      >>> cluster_arguments(Cluster(distributed=True, process_id=0))
      ['--distributed', '--process-id', '0']
    """
    words = []
    for field in dataclasses.fields(cluster):
        value = getattr(cluster, field.name)
        if value != field.default:
            option = f"--{field.name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    return words


@contextlib.contextmanager
def join_cluster(cluster: Cluster) -> Iterator[None]:
    """Connects this process with the others; must come before JAX is used.

    Does nothing for a process on its own. One of several ends inside, with status 1,
    after any error: the message is printed here.
    """
    check_cluster(cluster)
    if not cluster.distributed:
        yield
        return
    import jax

    _find_together(cluster)
    try:
        yield
    # Whatever it is, the others must not wait for this process.
    except Exception as error:  # noqa: BLE001
        _explain(error)
        if jax.process_index() == 0:
            time.sleep(_FIRST_LEAVES_LATER)
        _leave()
    jax.distributed.shutdown()


def _find_together(cluster: Cluster) -> None:
    import jax

    if cluster.coordinator is not None:
        _check_address(cluster)
    given = (cluster.coordinator, cluster.num_processes, cluster.process_id)
    watch = threading.Timer(cluster.join_seconds, _give_up, [cluster])
    watch.daemon = True
    watch.start()
    # Python's own handler would wait until all are there.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        jax.distributed.initialize(
            *given,
            initialization_timeout=cluster.join_seconds + _JAX_WAITS_LONGER,
        )
    except (RuntimeError, ValueError) as error:
        raise ClusterError(
            f"The processes did not find together: {error} Give --coordinator, "
            "--num-processes and --process-id."
        ) from error
    finally:
        watch.cancel()
        signal.signal(signal.SIGINT, handler)


def _check_address(cluster: Cluster) -> None:
    """What JAX would wait long for, or crash at."""
    address = _host_and_port(cluster)
    assert address is not None
    host, port = address
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        raise ClusterError(
            f"There is no host {host}, of the coordinator {cluster.coordinator}: "
            f"{error.strerror}."
        ) from error
    if cluster.process_id == 0:
        try:
            with socket.create_server(("", port)):
                pass
        except OSError as error:
            raise ClusterError(
                f"The port {port} of the coordinator {cluster.coordinator} cannot be "
                f"opened here, by its first process: {os.strerror(error.errno or 0)}. "
                "Choose another one."
            ) from error


def _give_up(cluster: Cluster) -> None:
    where = cluster.coordinator or "the coordinator that JAX found"
    others = f"all {cluster.num_processes or ''} processes".replace("  ", " ")
    problem = f"not {others} have come to {where}"
    if cluster.process_id and not _answers(cluster):
        problem = f"there is no coordinator at {where}, which process 0 opens"
    print(
        f"After {cluster.join_seconds} seconds (--join-seconds) {problem}. Start "
        f"{others} with the same --coordinator and --num-processes, each with its own "
        "--process-id.",
        file=sys.stderr,
    )
    _leave()


def _answers(cluster: Cluster) -> bool:
    address = _host_and_port(cluster)
    try:
        with socket.create_connection(address or ("", 0), timeout=2):
            return True
    except OSError:
        return False


def _explain(error: Exception) -> None:
    if isinstance(error, JobError):
        print(error, file=sys.stderr)
    elif "Gloo" in str(error):
        print(
            "Another process is gone; see its own messages. All up to the last "
            f"checkpoint is kept: go on by --resume. ({error})",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(error)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _host_and_port(cluster: Cluster) -> tuple[str, int] | None:
    host, _, port = (cluster.coordinator or "").rpartition(":")
    is_port = port.isdecimal() and 0 < int(port) < 2**16
    return (host.strip("[]"), int(port)) if host and is_port else None


def _bad(name: str, accepted: str, value: object) -> ClusterError:
    return ClusterError(
        f"The `{name}` option must be {accepted}. Got {value!r} instead."
    )
