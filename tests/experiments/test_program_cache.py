"""The commands' own cache of compiled programs."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from small_file_systems import make_read_only, mounted_tmpfs

from heavytail_optax import cli
from heavytail_optax.experiments.files import user_cache
from heavytail_optax.experiments.programs import program_cache

# Two programs that take long to compile. Others may, on a busy machine.
COMPILES = """
import sys
import jax
from heavytail_optax.experiments.programs import program_cache

found, hits = [], 0
jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
with program_cache(sys.argv[1] == "with"):
    key = jax.random.key(0)
    for last in (5, 7):
        def slow(key):
            return [jax.random.normal(key, (i,)) for i in range(1, last)]
        before = len(found)
        jax.block_until_ready(jax.jit(slow)(key))
        hits += "/jax/compilation_cache/cache_hits" in found[before:]
print("hits", hits)
"""


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """The user's cache directory in an empty folder, and no cache of JAX's."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    names = {"linux": "XDG_CACHE_HOME", "win32": "LOCALAPPDATA", "darwin": "HOME"}
    monkeypatch.setenv(names[sys.platform], str(tmp_path))
    return tmp_path


@pytest.fixture
def no_other_cache():
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    reset_cache()


def start(cached="with"):
    return subprocess.Popen(
        [sys.executable, "-c", COMPILES, cached],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process):
    """Hits of the cache, and the lines on standard error."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return int(out.split()[-1]), err.splitlines()


def programs():
    return sorted(user_cache("programs").glob("jit_slow-*-cache"))


def test_a_second_process_reads_what_the_first_one_compiled(environment):
    assert outcome(start()) == (0, [])
    kept = programs()
    assert len(kept) == 2 and environment in kept[0].parents
    assert outcome(start()) == (2, [])
    # Negative control.
    assert outcome(start("without")) == (0, [])
    assert programs() == kept


def test_two_processes_at_once(environment):
    both = [start(), start()]
    assert all(lines == [] for _, lines in map(outcome, both))
    assert outcome(start()) == (2, [])


def test_what_a_killed_process_was_writing_is_dropped(environment):
    outcome(start())
    whole, _ = programs()
    whole.write_bytes(b"half of a")
    whole.with_name(f"{whole.name.removesuffix('-cache')}-atime").unlink()
    assert outcome(start()) == (1, [])
    assert whole.read_bytes() != b"half of a"
    assert outcome(start()) == (2, [])


def test_a_read_only_disk_costs_one_line(environment, tmp_path, monkeypatch):
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as disk:
        make_read_only(disk)
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
        hits, lines = outcome(start())
    assert hits == 0 and len(lines) == 1
    assert str(disk) in lines[0] and "Read-only file system" in lines[0]


def test_a_disk_that_gets_full_costs_one_line(environment, tmp_path, monkeypatch):
    with mounted_tmpfs(tmp_path / "disk", "size=16k") as disk:
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
        hits, lines = outcome(start())
    assert hits == 0 and len(lines) == 1
    assert "No space left on device" in lines[0]


@pytest.mark.parametrize("spare", [-1, 2**20])
def test_the_least_recently_used_program_goes(environment, no_other_cache, spare):
    """Of more than 256 MiB, most of them a hole in the file of one program."""
    with program_cache(True):
        draw(1)
        (oldest,) = programs()
    others = [path for path in user_cache("programs").glob("*-cache") if path != oldest]
    size = 256 * 2**20 - spare - sum(path.stat().st_size for path in others)
    os.truncate(oldest, size)
    used = oldest.with_name(f"{oldest.name.removesuffix('-cache')}-atime")
    used.write_bytes((1).to_bytes(8, "little"))
    with program_cache(True):
        draw(2)
    assert oldest.exists() == (spare > 0)
    assert len(programs()) == 1 + oldest.exists()
    everything = user_cache("programs").glob("*-cache")
    assert sum(path.stat().st_size for path in everything) <= 256 * 2**20


def draw(number):
    """By a program of its own for each number."""

    def slow(key):
        return [jax.random.normal(key, (number + 10 * i,)) for i in range(1, 5)]

    jax.block_until_ready(jax.jit(slow)(jax.random.key(0)))


def test_a_cache_that_the_user_named_comes_first(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    outcome(start())
    assert list((tmp_path / "own").glob("*-cache")) and programs() == []


def test_afterwards_jax_is_as_before(environment, no_other_cache):
    names = [
        "jax_compilation_cache_dir",
        "jax_compilation_cache_max_size",
        "jax_persistent_cache_min_compile_time_secs",
    ]
    before = [getattr(jax.config, name) for name in names]
    with program_cache(True):
        assert jax.config.jax_compilation_cache_dir == str(user_cache("programs"))
    assert [getattr(jax.config, name) for name in names] == before


@pytest.mark.skipif(sys.platform != "linux", reason="The rule of XDG.")
@pytest.mark.parametrize(
    ("given", "expected"),
    [("/var/own", "/var/own"), ("relative", "~/.cache"), (None, "~/.cache")],
)
def test_the_directory_is_that_of_the_user(given, expected):
    environment = {} if given is None else {"XDG_CACHE_HOME": given}
    found = user_cache("programs", environment)
    place = pathlib.Path(os.path.expanduser(expected))
    assert found == place / "heavytail-optax" / "programs"


def test_only_commands_use_it_and_each_can_do_without(
    environment, no_other_cache, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["heavytail"])
    small = ["--steps", "300", "--chains", "8", "--directory", str(tmp_path / "lab")]
    assert cli.main(["simulate", *small, "--no-cache"]) == 0
    assert not user_cache("programs").exists()
    for name in cli.SUBCOMMANDS:
        assert cli.main([name, "--help"]) == 0
        assert ("--no-cache" in capsys.readouterr().out) == (name != "report")
    assert not user_cache("programs").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="It takes HOME away.")
def test_a_user_without_a_home_directory(
    no_other_cache, homeless, tmp_path, monkeypatch, capsys
):
    """Commands go without a cache, and ~ is a name like another one."""
    assert user_cache("programs") is None
    monkeypatch.setattr(sys, "argv", ["heavytail"])
    small = ["--steps", "300", "--chains", "8", "--directory", str(tmp_path / "lab")]
    assert cli.main(["simulate", *small]) == 0
    folder = ["train", "--data", "folder", "--data-dir", "~/pets"]
    assert cli.main(folder) == 2
    assert "~/pets" in capsys.readouterr().err
