"""The public face: which names there are, where they live, how they are called."""

import dataclasses
import importlib
import inspect
import pathlib
import re
import types

import jax.numpy as jnp
import optax
import pytest

import heavytail_optax as hto

POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
KEYWORD = inspect.Parameter.KEYWORD_ONLY

# What each holds, the pages of the reference say: see `test_house_rules.py`.
NAMESPACES = (
    "heavytail_optax",
    "heavytail_optax.dynamics",
    "heavytail_optax.flatness",
    "heavytail_optax.tail_index",
    "heavytail_optax.tails",
)

# Sub-packages that users name but `import heavytail_optax` does not load: they need
# more than jax and optax.
NOT_IMPORTED = {"cli", "experiments", "laboratory"}

# What code written elsewhere relies on: positional arguments, then keyword-only ones.
# A function may have further keyword-only arguments with a default, no others.
SIGNATURES = {
    "tails.pareto": (["alpha"], []),
    "tails.lomax": (["alpha"], []),
    "tails.symmetric_pareto": (["alpha"], []),
    "tails.alpha_stable": (["alpha", "beta=0.0"], []),
    "tails.student_t": (["df"], []),
    "tails.gaussian": ([], []),
    "add_heavy_tailed_noise": (
        ["tail", "scale"],
        ["key", "direction='elementwise'", "axis_name=None"],
    ),
    "inflate_gradient_noise": (["tail", "scale"], ["key"]),
    "inflate_preconditioned_noise": (
        ["inner", "tail", "scale"],
        ["key", "inflate_above=0.0"],
    ),
    "value_grad_and_noise": (
        ["loss_per_example"],
        ["has_aux=False", "axis_name=None"],
    ),
    "truncate_update_norm": (["max_norm"], ["axis_name=None"]),
    "truncated_heavy_tailed_sgd": (
        ["learning_rate", "max_norm", "tail", "scale"],
        [
            "key",
            "direction='elementwise'",
            "momentum=None",
            "nesterov=False",
        ],
    ),
    "independent_inflation_weights": (
        ["z"],
        ["small", "large", "second_small=None"],
    ),
    "shared_inflation_weights": (["z"], ["small", "large"]),
    "balanced_inflation_weights": (["z"], ["small", "key"]),
    "flatness.expected_sharpness": (
        ["loss_fn", "params"],
        ["key", "args=()", "stddev=0.01", "num_samples=100"],
    ),
    "flatness.pac_bayes_sharpness": (
        ["loss_fn", "params"],
        ["key", "args=()", "target=0.1", "num_samples=100"],
    ),
    "flatness.maximal_sharpness": (
        ["loss_fn", "params"],
        ["key", "args=()", "target=0.1"],
    ),
    "flatness.escape_profile": (
        ["loss_fn", "params"],
        ["key", "jump_norm", "learning_rate", "args=()"],
    ),
    "flatness.hessian_eigenvalues": (
        ["loss_fn", "params"],
        ["key", "args=()", "num_eigenvalues=1"],
    ),
    "flatness.hessian_trace": (
        ["loss_fn", "params"],
        ["key", "args=()", "num_samples=100"],
    ),
    "tail_index.hill": (
        ["samples", "k"],
        ["interval='corrected'", "axis=-1", "confidence=0.95"],
    ),
    "tail_index.log_moment": (
        ["samples", "block_size=None"],
        ["axis=-1", "confidence=0.95"],
    ),
    "tail_index.track_tail_index": (
        ["k=200"],
        ["source='gradient_noise'", "measure='norm'", "key=None"],
    ),
    "tail_inflated_grad": (
        ["loss_per_example", "tail", "scale"],
        ["scheme='balanced'", "inflate_above=0.0", "has_aux=False"],
    ),
    "tail_inflated_value_and_grad": (
        ["loss_per_example", "tail", "scale"],
        ["scheme='balanced'", "inflate_above=0.0", "has_aux=False"],
    ),
}

# Where a library or this package has the key first: `jax.random.f(key, ...)`.
KEY_FIRST = {"sample"}

# A chain has several of these: their fields must be told apart by name.
STATES = (
    hto.AddHeavyTailedNoiseState,
    hto.InflateGradientNoiseState,
    hto.InflatePreconditionedNoiseState,
    hto.TruncateUpdateNormState,
    hto.tail_index.TrackTailIndexState,
)

TAILS = (
    hto.tails.pareto(1.4),
    hto.tails.lomax(1.4),
    hto.tails.symmetric_pareto(1.4),
    hto.tails.alpha_stable(1.4),
    hto.tails.student_t(1.4),
    hto.tails.gaussian(),
)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_all_is_exactly_what_a_user_can_import(namespace):
    module = importlib.import_module(namespace)
    assert isinstance(module.__all__, tuple)
    assert list(module.__all__) == sorted(module.__all__, key=_constants_first)
    public = {name for name in dir(module) if not name.startswith("_")}
    # Loaded by another test, perhaps.
    assert public - NOT_IMPORTED == set(module.__all__)


def _constants_first(name):
    """The order of ruff: classes before functions."""
    return (name[0].islower(), name)


def test_every_public_name_has_one_home():
    homes = {}
    for namespace in NAMESPACES:
        module = importlib.import_module(namespace)
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, types.ModuleType):
                assert value.__name__ in NAMESPACES
                continue
            assert id(value) not in homes, f"{name}, too, is {homes[id(value)]}"
            homes[id(value)] = f"{namespace}.{name}"
            # It is defined in an underscored file of that very namespace.
            parent, _, file = value.__module__.rpartition(".")
            assert parent == namespace
            assert file.startswith("_")
            assert value.__name__ == name


def test_what_users_do_not_import_has_an_underscore():
    root = pathlib.Path(hto.__file__).parent
    for namespace in NAMESPACES:
        names = set(importlib.import_module(namespace).__all__)
        folder = root.joinpath(*namespace.split(".")[1:])
        found = {
            path.stem
            for path in folder.iterdir()
            if path.suffix == ".py" or (path / "__init__.py").exists()
        }
        public = {name for name in found if not name.startswith("_")}
        assert public <= names | NOT_IMPORTED


def _listed(value, kind):
    return [
        name if p.default is inspect.Parameter.empty else f"{name}={p.default!r}"
        for name, p in inspect.signature(value).parameters.items()
        if p.kind is kind
    ]


@pytest.mark.parametrize("path", SIGNATURES)
def test_signatures(path):
    value = hto
    for name in path.split("."):
        value = getattr(value, name)
    positional, keyword = SIGNATURES[path]
    kinds = {p.kind for p in inspect.signature(value).parameters.values()}
    assert kinds <= {POSITIONAL, KEYWORD}
    assert _listed(value, POSITIONAL) == positional
    got = _listed(value, KEYWORD)
    assert [x for x in got if x in keyword] == keyword
    assert all("=" in x for x in got if x not in keyword)


def _public_functions():
    """Every public function, and every public method of a public class, by its name."""
    found = {}
    for namespace in NAMESPACES:
        module = importlib.import_module(namespace)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value):
                for method, each in vars(value).items():
                    if inspect.isfunction(each) and not method.startswith("_"):
                        found[f"{namespace}.{name}.{method}"] = each
            elif inspect.isfunction(value):
                found[f"{namespace}.{name}"] = value
    return found


def test_keys_are_keyword_only():
    """Except where `jax.random` is mirrored."""
    for name, function in _public_functions().items():
        key = inspect.signature(function).parameters.get("key")
        if key is not None:
            kind = POSITIONAL if function.__name__ in KEY_FIRST else KEYWORD
            assert key.kind is kind, name


def test_no_function_has_the_name_of_its_own_argument():
    for name, function in _public_functions().items():
        assert function.__name__ not in inspect.signature(function).parameters, name


def test_every_field_of_a_state_is_unique_in_a_chain():
    """By the names, so that `optax.tree.get(state, name)` is never ambiguous."""
    listed = [getattr(hto, name) for name in hto.__all__ if name.endswith("State")]
    assert set(listed) < set(STATES)
    of_optax = {
        field
        for name in dir(optax)
        if name.endswith("State") and hasattr(getattr(optax, name), "_fields")
        for field in getattr(optax, name)._fields
    }
    assert "count" in of_optax
    fields = [field for state in STATES for field in state._fields]
    assert len(fields) == len(set(fields))
    assert not set(fields) & of_optax


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_named_after_its_function(state):
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", state.__name__.removesuffix("State"))
    assert any(name.endswith(f".{words.lower()}") for name in _public_functions())


@pytest.mark.parametrize("tail", TAILS, ids=lambda tail: type(tail).__name__)
def test_the_face_of_a_tail(tail):
    """The protocol of a tail, and what makes it a value: frozen, hashable, equal."""
    assert isinstance(tail, hto.tails.Tail)
    assert not callable(tail)
    assert _listed(type(tail).sample, POSITIONAL) == [
        "self",
        "key",
        "shape=()",
        f"dtype={jnp.float32!r}",
    ]
    assert _listed(type(tail).sample, KEYWORD) == ["out_sharding=None"]
    assert _listed(tail.tail_probability, POSITIONAL) == ["x"]
    fields = {f.name: getattr(tail, f.name) for f in dataclasses.fields(tail)}
    again = type(tail)(**fields)
    assert again == tail
    assert hash(again) == hash(tail)
    for name in fields:
        assert type(tail)(**(fields | {name: 0.75})) != tail
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(tail, name, 0.75)
    arguments = ", ".join(f"{name}={value}" for name, value in fields.items())
    assert repr(tail) == f"{type(tail).__name__}({arguments})"


@pytest.mark.parametrize(
    ("factory", "number", "same"),
    [(hto.tails.symmetric_pareto, 2.0, 2), (hto.tails.alpha_stable, 1.0, 1)],
)
def test_equal_parameters_of_another_type_make_equal_tails(factory, number, same):
    assert factory(number) == factory(same)
    assert hash(factory(number)) == hash(factory(same))


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        (hto.AddHeavyTailedNoiseState, ("noise_count", "noise_key")),
        (
            hto.InflateGradientNoiseState,
            ("inflation_count", "inflation_key", "inflation_draw"),
        ),
        (
            hto.InflatePreconditionedNoiseState,
            (
                "precondition_count",
                "precondition_key",
                "precondition_draw",
                "optimizer_state",
            ),
        ),
        (
            hto.TruncateUpdateNormState,
            ("truncation_count", "update_norm", "num_truncated", "max_norm"),
        ),
        (
            hto.tail_index.TrackTailIndexState,
            (
                *("tail_count", "tail_seen", "tail_non_finite", "tail_largest"),
                *("tail_when", "tail_sizes_each", "tail_log_mean"),
                *("tail_squares", "tail_previous"),
            ),
        ),
    ],
)
def test_fields_of_the_states(state, fields):
    assert state._fields == fields
