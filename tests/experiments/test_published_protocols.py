"""The protocols of SVHN and CIFAR from the files to the table, on random images.

The files have the published formats; in the last test they have the published size too.
All settings are the preset's but those that only make it shorter.
"""

import csv
import json

import pytest
from small_data_sets import (
    original_files,
    random_splits,
    without_checksums,
    write_files,
)

from heavytail_optax import cli
from heavytail_optax.experiments.data.catalogue import CATALOGUE
from heavytail_optax.experiments.flat_settings import flat, from_flat, replaced
from heavytail_optax.experiments.presets import PRESETS

PROTOCOLS = ("svhn", "cifar10", "cifar10-augmented", "cifar100-augmented")
SHORTER = {
    "steps": "4",
    "eval_every": "2",
    "width": "0.0625",
    "batch_size": "4",
    "large_batch_size": "8",
    "sharpness_samples": "2",
}


def run_protocol(name, data_dir, directory, *options):
    """Exit code, what the first method was trained with, and the summary's rows."""
    shorter = [
        part
        for setting, value in SHORTER.items()
        for part in (f"--{setting.replace('_', '-')}", value)
    ]
    places = ["--data-dir", str(data_dir), "--directory", str(directory)]
    code = cli.main(
        ["reproduce", name, "--num-seeds", "1", *shorter, *places, *options]
    )
    config = next(directory.glob("*/seed-0/config.json"))
    with (directory / "summary.csv").open(newline="") as file:
        return code, json.loads(config.read_text()), list(csv.DictReader(file))


def check_settings(config, name, changed):
    """Those of the run are the preset's, but for the ones that were changed."""
    settings, expected = from_flat(config["settings"]), PRESETS[name].settings
    kept = {name: value for name, value in flat(expected).items() if name in changed}
    assert replaced(settings, **kept) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_from_the_files_to_the_table(name, small_data, tmp_path):
    settings = PRESETS[name].settings
    data = small_data[settings.data.data]
    write_files(tmp_path / "data", original_files(data, *random_splits(data)))
    images = data.test if settings.data.swap_train_and_test else data.train
    options = ["--clean-examples", str(images.num_images)]
    if settings.data.test_examples:
        options += ["--test-examples", str(data.train.num_images)]
    code, config, rows = run_protocol(
        name, tmp_path / "data", tmp_path / "grid", *options
    )
    assert code == 0
    changed = {*SHORTER, "clean_examples", "test_examples", "method"}
    check_settings(config, name, changed)
    assert {row["method"] for row in rows} == set(PRESETS[name].methods)
    for row in rows:
        assert row["seeds_finished"] == "1"
        assert 0.0 <= float(row["test_accuracy"]) <= 1.0
    page = (tmp_path / "grid" / "report.md").read_text()
    assert all(method in page for method in PRESETS[name].methods)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["svhn", "cifar10-augmented"])
def test_files_of_the_published_size(name, tmp_path, monkeypatch):
    """Two methods; 95,000 and 60,000 images are read, trained and tested on."""
    settings = PRESETS[name].settings
    data = without_checksums(CATALOGUE[settings.data.data])
    monkeypatch.setitem(CATALOGUE, settings.data.data, data)
    write_files(tmp_path / "data", original_files(data, *random_splits(data)))
    methods = ["--methods", "sgd-truncated", "balanced"]
    measures = ["--measures", "expected"]
    code, config, rows = run_protocol(
        name, tmp_path / "data", tmp_path / "grid", *methods, *measures
    )
    assert code == 0
    check_settings(config, name, {*SHORTER, "method", "measures"})
    assert {row["seeds_finished"] for row in rows} == {"1"}
