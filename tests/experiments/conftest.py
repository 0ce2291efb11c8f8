"""A job of seconds, which every test of this folder may use."""

import dataclasses

import pytest

from heavytail_optax.experiments.data import load_dataset
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.random_streams import random_streams

TINY = dataclasses.replace(
    PRESETS["corrupted-digits"].settings,
    image_size=16,
    clean_examples=80,
    corrupted_examples=20,
    steps=6,
    eval_every=2,
    batch_size=10,
    # Some steps are truncated, others not.
    max_norm=0.15,
)


@pytest.fixture(scope="session")
def tiny():
    return TINY


@pytest.fixture(scope="session")
def tiny_dataset():
    return load_dataset(TINY, random_streams(TINY.seed).labels)


@pytest.fixture(scope="session")
def tiny_options():
    """The same job on the command line."""
    values = dataclasses.asdict(TINY)
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
