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
from heavytail_optax.experiments.devices.program_cache import (
    cache_directory,
    program_cache,
)

# A program that takes longer to compile than to read.
COMPILES = """
import sys
import jax
from heavytail_optax.experiments.devices.program_cache import program_cache

found = []
jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
with program_cache(sys.argv[1] == "with"):
    key = jax.random.key(0)
    wait = jax.jit(lambda key: [jax.random.normal(key, (i,)) for i in range(1, 9)])
    jax.block_until_ready(wait(key))
print("hits", found.count("/jax/compilation_cache/cache_hits"))
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
    return sorted(cache_directory().glob("*-cache"))


def test_a_second_process_reads_what_the_first_one_compiled(environment):
    assert outcome(start()) == (0, [])
    kept = programs()
    assert kept and environment in kept[0].parents
    hits, lines = outcome(start())
    assert hits == len(kept) and lines == []
    # Negative control.
    assert outcome(start("without")) == (0, [])
    assert programs() == kept


def test_two_processes_at_once(environment):
    both = [start(), start()]
    assert all(lines == [] for _, lines in map(outcome, both))
    kept = programs()
    assert outcome(start()) == (len(kept), [])


def test_what_a_killed_process_was_writing_is_dropped(environment):
    outcome(start())
    (whole, *_), folder = programs(), cache_directory()
    whole.write_bytes(b"half of a")
    whole.with_name(f"{whole.name.removesuffix('-cache')}-atime").unlink()
    hits, lines = outcome(start())
    assert hits == len(programs()) - 1 and lines == []
    assert whole.read_bytes() != b"half of a"
    assert sorted(folder.glob("*-atime"))


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


def test_the_least_recently_used_program_goes(environment, no_other_cache, monkeypatch):
    one, size = "heavytail_optax.experiments.devices.program_cache", 0
    with program_cache(True):
        compile_sums(1)
        size = sum(path.stat().st_size for path in programs())
    assert size > 0
    monkeypatch.setattr(f"{one}._LARGEST", int(2.5 * size))
    (oldest,) = programs()
    with program_cache(True):
        for number in (2, 3, 4):
            compile_sums(number)
    assert oldest not in programs()
    assert 1 <= len(programs()) <= 3
    assert sum(path.stat().st_size for path in programs()) <= 2.5 * size


def compile_sums(number):
    """A program of its own for each number."""
    draw = lambda key: [jax.random.normal(key, (number + 10 * i,)) for i in range(1, 5)]
    jax.block_until_ready(jax.jit(draw)(jax.random.key(number)))


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
        assert jax.config.jax_compilation_cache_dir == str(cache_directory())
    assert [getattr(jax.config, name) for name in names] == before


@pytest.mark.skipif(sys.platform != "linux", reason="The rule of XDG.")
@pytest.mark.parametrize(
    ("given", "expected"),
    [("/var/own", "/var/own"), ("relative", "~/.cache"), (None, "~/.cache")],
)
def test_the_directory_is_that_of_the_user(given, expected):
    environment = {} if given is None else {"XDG_CACHE_HOME": given}
    found = cache_directory(environment)
    place = pathlib.Path(os.path.expanduser(expected))
    assert found == place / "heavytail-optax" / "programs"


def test_only_commands_use_it_and_each_can_do_without(
    environment, no_other_cache, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["heavytail"])
    small = ["--steps", "300", "--chains", "8", "--directory", str(tmp_path / "lab")]
    assert cli.main(["simulate", *small, "--no-cache"]) == 0
    assert not cache_directory().exists()
    for name in cli.SUBCOMMANDS:
        assert cli.main([name, "--help"]) == 0
        assert ("--no-cache" in capsys.readouterr().out) == (name != "report")
    assert not cache_directory().exists()
