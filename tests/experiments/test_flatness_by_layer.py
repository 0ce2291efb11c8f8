"""`heavytail flatness --by-layer`: each layer, with the rest held fixed."""

import csv

import pytest

from heavytail_optax import cli

LAYERS = ["convolution1", "convolution2", "dense1", "dense2"]


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_layers_have_rows_bars_and_the_trace_of_the_whole(two_methods, capsys):
    # The trace of a layer and that of the network use other draws: many are needed.
    options = ["--measures", "trace", "--samples", "30", "--methods", "sgd"]
    assert cli.main(["flatness", str(two_methods), "--by-layer", *options]) == 0
    rows = rows_of(two_methods / "flatness_by_layer.csv")
    assert [row["layer"] for row in rows] == LAYERS
    assert (two_methods / "flatness_by_layer.png").read_bytes()[:4] == b"\x89PNG"
    assert cli.main(["flatness", str(two_methods), *options]) == 0
    whole = rows_of(two_methods / "flatness.csv")[0]
    parts = sum(float(row["hessian_trace"]) for row in rows)
    names = "hessian_trace_standard_error"
    error = sum(float(row[names]) ** 2 for row in (*rows, whole)) ** 0.5
    # Five standard errors: a false alarm in fewer than one of 100,000 keys.
    assert abs(parts - float(whole["hessian_trace"])) < 5 * error
    # What is measured stays; the network's own measures are others.
    capsys.readouterr()
    assert cli.main(["flatness", str(two_methods), "--by-layer", *options]) == 0
    assert "already measured" in capsys.readouterr().out


@pytest.mark.parametrize("measure", ["density", "line", "escape"])
def test_what_is_no_number_of_a_layer_is_refused(two_methods, measure, capsys):
    options = ["--by-layer", "--measures", measure]
    assert cli.main(["flatness", str(two_methods), *options]) == 2
    assert "--by-layer" in capsys.readouterr().err
