import dataclasses

from heavytail_optax.experiments.methods import METHOD_NAMES, METHODS


def test_the_table_has_every_name_once():
    assert tuple(METHODS) == METHOD_NAMES
    assert all(name == method.name for name, method in METHODS.items())


def test_names_of_the_papers_tables():
    assert {name: m.paper_name for name, m in METHODS.items() if m.paper_name} == {
        "sgd-large-batch": "LB",
        "sgd": "SB",
        "sgd-truncated": "SB+Clip",
        "inflated": "SB+Noise",
        "independent": "Our 1",
        "shared": "Our 2",
    }


def test_inflated_is_independent_without_truncation():
    cut = dataclasses.asdict(METHODS["independent"])
    uncut = dataclasses.asdict(METHODS["inflated"])
    differing = {field for field in cut if cut[field] != uncut[field]}
    assert differing == {"name", "paper_name", "summary", "colour", "truncates"}
    assert cut["truncates"] and not uncut["truncates"]


def test_what_the_labels_say():
    assert METHODS["independent"].label == "independent (Our 1)"
    assert METHODS["balanced"].label == "balanced"


def test_noise_comes_from_one_place_at_most():
    for method in METHODS.values():
        assert not (method.draws_noise and method.scheme)
    assert METHODS["balanced"].is_noisy and not METHODS["sgd-truncated"].is_noisy
