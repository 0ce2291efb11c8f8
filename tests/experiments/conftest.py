"""A job of seconds, which every test of this folder may use."""

import functools
import json
import pathlib
import shutil

import huggingface_hub
import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from small_data_sets import hub_of_folder, load_dataset, small_catalogue

from heavytail_optax import cli
from heavytail_optax.experiments.data.catalogue import CATALOGUE
from heavytail_optax.experiments.flat_settings import flat, replaced
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.training.batches import random_streams

TINY = replaced(
    PRESETS["corrupted-digits"].settings,
    image_size=16,
    clean_examples=80,
    corrupted_examples=20,
    steps=6,
    eval_every=2,
    batch_size=10,
    measures=("expected",),
    # Some steps are truncated, others not.
    max_norm=0.15,
)


@pytest.fixture(scope="package", autouse=True)
def _compile_once(tmp_path_factory):
    """Programs that tests and the processes they start share are compiled once."""
    cache = str(tmp_path_factory.mktemp("compiled"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", cache)
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        before = jax.config.jax_compilation_cache_dir
        seconds = jax.config.jax_persistent_cache_min_compile_time_secs
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        # Whether there is a cache is decided once, at the first program.
        reset_cache()
        yield
        jax.config.update("jax_compilation_cache_dir", before)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
        reset_cache()


@pytest.fixture(scope="session")
def tiny():
    return TINY


@pytest.fixture(scope="session")
def tiny_dataset():
    return load_dataset(TINY.data, random_streams(TINY.seed).labels)


@pytest.fixture(scope="session")
def tiny_options():
    """The same job on the command line."""
    values = flat(TINY)
    names = (
        "image_size",
        "clean_examples",
        "corrupted_examples",
        "steps",
        "eval_every",
        "batch_size",
        "max_norm",
    )
    return [
        part
        for name in names
        for part in (f"--{name.replace('_', '-')}", str(values[name]))
    ]


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_options):
    """A finished grid of `heavytail train`, with the preset's three methods."""
    directory = tmp_path_factory.mktemp("trained") / "whole"
    assert cli.main(["train", *tiny_options, "--directory", str(directory)]) == 0
    return directory


@pytest.fixture
def two_methods(trained, tmp_path):
    """A copy of it, to change, with two of the methods."""
    directory = pathlib.Path(shutil.copytree(trained, tmp_path / "a run"))
    shutil.rmtree(directory / "truncated-heavy-tailed-sgd")
    grid = json.loads((directory / "grid.json").read_text("utf-8"))
    del grid["variants"]["truncated-heavy-tailed-sgd"]
    (directory / "grid.json").write_text(json.dumps(grid), "utf-8")
    return directory


@pytest.fixture
def catalogue(tmp_path):
    """Small data sets in the form of the published ones.

    The folder of the system's package is `tmp_path / "package"`, which is not there.
    """
    return small_catalogue(tmp_path)


@pytest.fixture
def small_data(catalogue, monkeypatch):
    """The small data sets take the place of the published ones, also for commands."""
    for name, data in catalogue.items():
        monkeypatch.setitem(CATALOGUE, name, data)
    return catalogue


@pytest.fixture(scope="package", autouse=True)
def _caches(tmp_path_factory):
    """Decoded images are kept here, also by the processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture
def homeless(monkeypatch):
    """A user of whom the system knows no home directory."""
    pwd = pytest.importorskip("pwd")

    def unknown(number):
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.fixture(autouse=True)
def _hub(tmp_path, monkeypatch):
    """The folder `tmp_path / "hub"` in place of the hub; at first it is not there."""
    download = functools.partial(hub_of_folder, tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


@pytest.fixture
def load_small(catalogue):
    """Loads twenty training images of a small data set by its name."""

    def load_small(name, data_dir=None, **changes):
        height, _, _ = catalogue[name].image_shape
        sizes = {"clean_examples": 12, "corrupted_examples": 8, "image_size": height}
        changes = {"data": name, **sizes, **changes}
        settings = replaced(TINY, **changes)
        return load_dataset(settings.data, jax.random.key(0), data_dir, catalogue)

    return load_small
