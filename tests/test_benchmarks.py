"""Benchmarks run, with sizes so small that their numbers say nothing."""

import csv
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
SMALL = {
    "beyond_sgd": "--task bytes --steps 20 --num-runs 1 --arms behind",
    "chains": "--rounds 2",
    "compile_time": "--leaves 4 --shapes 2",
    "end_to_end": ". . --only import-jax simulate-help --rounds 2",
    "exit_exponents": "--dimensions 1 --exits 2",
    "first_calls": "--rounds 1",
    "four_regimes": "--steps 300 --chains 8",
    "image_folders": "--images 60 --rounds 1 --without-torchvision",
    "import_time": "--rounds 2",
    "noise_parts": "--sizes 100 --rounds 2",
    "noise_scale_coverage": "--samples 20",
    "rare_events": "--quick",
    "scale": "--width 256 --layers 1 --vocabulary 256",
    "tail_index_estimators": "--samples 3 --size 200 --k 10 --rounds 2",
    "tail_places": "--num-seeds 1 --steps 60 --optimizers AdamW --places none before",
    "tails_that_end": "--samples 2",
    "transformer_bound": "--seeds 2 --steps 20 --bounds 0.2",
    "transforms": "--sizes 400 --rounds 2",
    "wide_vectors": "--rounds 2",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_benchmark_writes_its_rows(name, tmp_path):
    script, out = BENCHMARKS / f"{name}.py", tmp_path / "rows.csv"
    result = subprocess.run(
        [sys.executable, script, *SMALL[name].split(), "--out", out],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all({"device", "jax", "commit"} <= set(row) for row in rows)
