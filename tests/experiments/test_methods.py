import dataclasses

import jax
import pytest

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.methods import METHOD_NAMES, METHODS
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.trainer import build_trainer

HEAVY = "truncated-heavy-tailed-sgd"
OTHER = {
    "inflation_scale": 0.25,
    "inflation_law": "normal",
    "inflate_above": 0.5,
    "large_batch_size": 30,
    "noise_scale": 0.01,
    "direction": "isotropic",
    "truncated_share": 0.1,
    "cooldown": 0.5,
    "sam_radius": 0.2,
    "gradient_average": 0.5,
    "momentum": 0.5,
    "averaged_share": 0.5,
}


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


def program_of(settings, dataset):
    """The steps of a run, as they are compiled."""
    trainer = build_trainer(settings, dataset.train.images.shape[1:], 10)
    keys = random_streams(0)
    state = jax.eval_shape(trainer.init, keys)
    return trainer.take_steps.lower(state, keys, dataset.train, 1).as_text()


@pytest.mark.parametrize(
    "method", ["sgd", "balanced", HEAVY, "f-sam", "msam", "sgd-averaged"]
)
def test_settings_without_effect_change_no_program(tiny, tiny_dataset, method):
    unused = METHODS[method].without_effect
    assert unused <= {*OTHER}
    settings = replaced(tiny, method=method, max_norm=None)
    program = program_of(settings, tiny_dataset)
    others = {name: value for name, value in OTHER.items() if name in unused}
    assert program_of(replaced(settings, **others), tiny_dataset) == program
    # Those that have an effect change it.
    for name in OTHER.keys() - unused:
        changed = replaced(settings, **{name: OTHER[name]})
        assert program_of(changed, tiny_dataset) != program, name
