import dataclasses
import json

import pytest

from heavytail_optax.experiments.commands.options import ReproduceOptions
from heavytail_optax.experiments.flat_settings import (
    changed_settings,
    flat,
    from_flat,
    replaced,
)
from heavytail_optax.experiments.methods import METHOD_NAMES
from heavytail_optax.experiments.presets import PRESETS

BAD = [
    ("method", "adam", " or ".join(map(repr, METHOD_NAMES))),
    (
        "data",
        "mnist",
        "'digits' or 'folder' or 'fashion-mnist' or 'svhn' or 'cifar10' or 'cifar100'",
    ),
    ("pixel_range", "bytes", "'minus-one-to-one' or 'zero-to-one'"),
    ("swap_train_and_test", 1, "True or False"),
    ("test_examples", 0, "a positive integer"),
    ("augmentation", "mixup", "'none' or 'crop-flip'"),
    ("width", 0.0, "a positive number"),
    ("learning_rate_schedule", "linear", "'constant' or 'cosine'"),
    ("precision", "float16", "'float32' or 'bfloat16'"),
    ("sharpness_stddev", 0.0, "a positive number"),
    ("sharpness_samples", 1, "an integer of at least 2"),
    ("measures", (), "a tuple of one or more names"),
    ("measures", ("expected", "expected"), "without repetition"),
    ("image_size", 15, "an integer of at least 16"),
    ("clean_examples", -1, "an integer of at least 0"),
    ("corrupted_examples", 2.5, "an integer of at least 0"),
    ("model", "vgg", "'lenet' or 'vgg11' or 'vgg16'"),
    ("initialisation", "zero", "'he' or 'truncated-normal' or 'fan-out'"),
    ("steps", 0, "a positive integer"),
    ("batch_size", 0, "a positive integer"),
    ("batch_size", 101, "at most the 100 training images"),
    ("learning_rate", -0.1, "a positive number"),
    ("alpha", float("nan"), "a positive number"),
    ("inflation_scale", float("inf"), "a number of at least 0"),
    ("inflation_law", "cauchy", "'pareto' or 'normal'"),
    ("inflate_above", 1.0, "a number from 0 to below 1"),
    ("large_batch_size", 0, "a positive integer"),
    ("large_batch_size", 101, "at most the 100 training images"),
    ("noise_scale", -0.1, "a number of at least 0"),
    ("direction", "sideways", "'elementwise' or 'isotropic'"),
    ("max_norm", 0.0, "a positive number"),
    ("truncated_share", 1.0, "a number above 0 and below 1"),
    ("truncated_share", 0.1, "left out where `max_norm` is given (0.15)"),
    ("cooldown", 1.5, "a number from 0 to 1"),
    ("sam_radius", 0.0, "a positive number"),
    ("averaged_share", 0.0, "a number above 0, at most 1"),
    ("seed", 2**32, "an integer from 0 to 4294967295"),
    ("eval_every", -5, "a positive integer"),
]


@pytest.mark.parametrize(("name", "value", "accepted"), BAD)
def test_bad_value_is_refused_in_one_wording(tiny, name, value, accepted):
    with pytest.raises((ValueError, TypeError)) as caught:
        # A method that has all kinds of batches.
        replaced(tiny, **{"method": "independent", name: value})
    message = f"The `{name}` setting must be {accepted}. Got {value!r} instead."
    assert str(caught.value) == message


def test_every_setting_is_checked(tiny):
    for name in flat(tiny):
        with pytest.raises((ValueError, TypeError), match=f"The `{name}` setting must"):
            replaced(tiny, **{name: object()})


@pytest.mark.parametrize("value", ["3", None, True])
def test_bad_type_is_refused(tiny, value):
    with pytest.raises(TypeError, match="The `steps` setting must be a positive"):
        replaced(tiny, steps=value)


def test_a_batch_that_is_split_has_two_images(tiny):
    for method in ("balanced", "balanced-untruncated"):
        assert replaced(tiny, method=method, batch_size=2)
        with pytest.raises(ValueError, match="`batch_size` setting must be at least 2"):
            replaced(tiny, method=method, batch_size=1)
    assert replaced(tiny, method="shared", batch_size=1)


def test_noise_ends_before_the_cooldown(tiny):
    for cooldown, expected in ((0.2, 8), (0.0, 10), (1.0, 0)):
        method = replaced(tiny, cooldown=cooldown).method
        assert method.noisy_steps(10) == expected


def test_the_large_batch_is_the_whole_training_set_unless_given(tiny):
    assert tiny.method.large_batch_images(90) == 90
    assert replaced(tiny, large_batch_size=30).method.large_batch_images(90) == 30


def test_a_large_batch_is_only_of_methods_that_have_one(tiny):
    """A smaller training set needs no option without effect."""
    assert replaced(tiny, method="sgd", large_batch_size=101)
    for method in ("sgd-large-batch", "independent", "shared"):
        with pytest.raises(ValueError, match="`large_batch_size` setting must be at"):
            replaced(tiny, method=method, large_batch_size=101)


@pytest.mark.parametrize(("model", "least"), [("vgg11", 32), ("vgg16", 32)])
def test_an_image_size_is_compared_with_the_network(tiny, model, least):
    assert replaced(tiny, model=model, image_size=least)
    assert replaced(tiny, model=model, image_size=None)
    with pytest.raises(
        ValueError, match=f"`image_size` .* at least {least} for {model}"
    ):
        replaced(tiny, model=model, image_size=least - 1)


def test_only_a_folder_counts_its_images(tiny):
    assert replaced(tiny, data="folder", clean_examples=None)
    with pytest.raises(ValueError, match="`data` setting must be 'folder' where"):
        replaced(tiny, clean_examples=None)


def test_settings_survive_json(tiny):
    values = json.loads(json.dumps(flat(tiny)))
    assert from_flat(values) == tiny
    with pytest.raises(ValueError, match="`seed` setting is missing"):
        from_flat({name: v for name, v in values.items() if name != "seed"})
    with pytest.raises(ValueError, match="`sed` setting is not known"):
        from_flat({**values, "sed": 1})


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("methods", (), "a tuple of one or more names"),
        ("methods", ("sgd", "sgd"), "without repetition"),
        ("num_seeds", 0, "an integer of at least 1"),
    ],
)
def test_options_are_checked_like_settings(tiny, name, value, accepted):
    command = ReproduceOptions(tiny, ("independent",))
    with pytest.raises(ValueError, match=f"`{name}` option must be {accepted}"):
        dataclasses.replace(command, **{name: value})


def test_changes_are_named_with_both_values(tiny):
    changed = replaced(tiny, seed=4, noise_scale=0.5)
    lines = changed_settings(tiny, changed)
    assert lines == [
        f"`noise_scale` is {tiny.method.noise_scale} there and 0.5 here",
        "`seed` is 0 there and 4 here",
    ]
    assert changed_settings(tiny, tiny) == []


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        # 1,797 images, of which an evaluation costs a third: 599 in a step of 100.
        ("corrupted-digits", {}, 100),
        ("corrupted-digits-short", {}, 120),
        ("corrupted-digits", {"data": "cifar10", "image_size": 32}, 380),
        ("corrupted-fashion-mnist", {}, 380),
        ("svhn", {}, 3200),
        ("cifar10", {}, 2000),
        ("cifar10", {"test_examples": 1000, "batch_size": 500}, 340),
        ("cifar10", {"swap_train_and_test": True}, 3400),
        ("cifar10", {"eval_every": 7}, 7),
        # Short runs: ten times, but at most for half of their time.
        ("corrupted-digits", {"steps": 1000}, 100),
        ("corrupted-digits", {"steps": 999}, 100),
        ("corrupted-digits", {"steps": 300}, 30),
        ("corrupted-digits", {"steps": 60}, 12),
        ("corrupted-fashion-mnist", {"steps": 300}, 75),
        ("cifar10", {"steps": 60}, 400),
    ],
)
def test_evaluations_take_a_tenth_of_the_time_unless_asked_for(name, changes, expected):
    settings = replaced(PRESETS[name].settings, **changes)
    assert settings.evaluation_steps == expected
    # The same for all methods, whose curves are compared.
    assert replaced(settings, method="sgd").evaluation_steps == expected


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.4, 2.0, 2.5])
def test_a_tail_outside_of_the_theory_is_known(tiny, alpha):
    is_outside = not 1 < alpha < 2
    drawing = {
        "balanced": {},
        "truncated-heavy-tailed-sgd": {"inflation_law": "normal"},
    }
    for method, changes in drawing.items():
        settings = replaced(tiny, method=method, alpha=alpha, **changes)
        assert settings.method.is_outside_theory == is_outside
    others = {"sgd": {}, "balanced": {"inflation_law": "normal"}}
    for method, changes in others.items():
        settings = replaced(tiny, method=method, alpha=alpha, **changes)
        assert not settings.method.is_outside_theory
