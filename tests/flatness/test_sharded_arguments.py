"""Every public function, with parameters and data spread over devices.

In float64: sums in another order then differ by 1e-16, and what the functions make of
that, differences of losses divided by small steps, by some 1e-13.
"""

import itertools
import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import pytest
import sharding

from heavytail_optax import flatness

TOLERANCE = 1e-10
P = jax.P

# A hidden layer that the model axis splits, wide, so that no leaf is as small as a batch.
NUM_UNITS, NUM_EXAMPLES = 128, 16
NUM_PARAMETERS = 6 * NUM_UNITS
SPECS = {"in": P(None, "model"), "bias": P("model"), "out": P("model", None)}
SHARDED = {"params": (SPECS, P()), "data": (P(), P("data")), "both": (SPECS, P("data"))}


def predict(params, inputs, targets):
    del targets
    hidden = jnp.tanh(inputs @ params["in"] + params["bias"][None])
    # A sum over a sharded axis, for which no sharding of the result need be told.
    return jnp.sum(hidden[:, :, None] * params["out"][None], axis=1)


def loss_of_outputs(outputs, inputs, targets):
    del inputs
    return jnp.mean(jnp.sum((outputs - targets) ** 2, axis=-1))


def loss(params, inputs, targets):
    return loss_of_outputs(predict(params, inputs, targets), inputs, targets)


def make():
    """Parameters, a direction like them and data, in float64."""
    keys = jax.random.split(jax.random.key(0), 8)
    shapes = {"in": (3, NUM_UNITS), "bias": (NUM_UNITS,), "out": (NUM_UNITS, 2)}

    def normals(keys):
        pairs = zip(keys, shapes.items(), strict=True)
        return {
            name: jax.random.normal(key, shape, jnp.float64)
            for key, (name, shape) in pairs
        }

    inputs = jax.random.normal(keys[6], (NUM_EXAMPLES, 3), jnp.float64)
    targets = jax.random.normal(keys[7], (NUM_EXAMPLES, 2), jnp.float64)
    return normals(keys[:3]), normals(keys[3:6]), (inputs, targets)


def measure(function, loss_fn=loss, **settings):
    """A case: the measure of the loss at the parameters."""

    def case(params, direction, data):
        del direction
        return function(loss_fn, params, key=0, args=data, **settings)

    return case


def escape(**settings):
    def case(params, direction, data):
        along = settings.get("direction", direction)
        return flatness.escape_profile(
            loss,
            params,
            key=0,
            args=data,
            jump_norm=0.5,
            learning_rate=0.01,
            max_jumps=2,
            num_samples=3,
            flow_steps=2,
            descent_steps=3,
            num_points=3,
            **(settings | {"direction": along}),
        )

    return case


def derivatives(make_loss):
    """A case: value and gradient of a loss that is made of another."""

    def case(params, direction, data):
        del direction
        return jax.value_and_grad(make_loss())(params, *data)

    return case


def plane(params, direction, data):
    directions, steps = (direction, params), jnp.linspace(0.0, 1.0, 3)
    return flatness.loss_plane(loss, params, directions, steps, steps[:2], args=data)


def line(params, direction, data):
    return flatness.loss_line(
        *(loss, params, direction), jnp.linspace(0.0, 1.0, 3), args=data
    )


draw = flatness.gradient_noise_direction(loss, 8)
few_steps = {"num_steps": 3, "num_restarts": 2}
trace = measure(flatness.hessian_trace, num_samples=2)
density = measure(
    flatness.hessian_density, num_samples=2, num_matvecs=4, num_points=5
)  # fmt: skip

CASES = {
    "expected_sharpness": measure(flatness.expected_sharpness, num_samples=5),
    "expected_sharpness/adaptive": measure(
        *(flatness.expected_sharpness,),
        num_samples=5,
        adaptive=True,
        floor=0.1,
        samples_at_once=2,
    ),
    "pac_bayes_sharpness": measure(flatness.pac_bayes_sharpness, num_samples=4),
    "pac_bayes_sharpness/adaptive": measure(
        flatness.pac_bayes_sharpness, num_samples=4, adaptive=True, signed=False
    ),
    "maximal_sharpness": measure(flatness.maximal_sharpness, **few_steps),
    "maximal_sharpness/box": measure(
        flatness.maximal_sharpness, order=math.inf, deviation_fn=loss, **few_steps
    ),
    "maximal_sharpness/adaptive": measure(
        flatness.maximal_sharpness, adaptive=True, floor=0.01, **few_steps
    ),
    "hessian_eigenvalues": measure(
        flatness.hessian_eigenvalues, num_eigenvalues=2, num_matvecs=5
    ),
    "hessian_trace": trace,
    "hessian_density": density,
    "gauss_newton_loss": derivatives(
        lambda: flatness.gauss_newton_loss(predict, loss_of_outputs)
    ),
    "gauss_newton_loss/trace": measure(
        *(flatness.hessian_trace, flatness.gauss_newton_loss(predict, loss_of_outputs)),
        num_samples=2,
    ),
    "softmax_cross_entropy": lambda params, direction, data: jax.value_and_grad(
        lambda inputs: flatness.softmax_cross_entropy(
            inputs, jnp.zeros_like(inputs[:, 0], int)
        ).mean()
    )(data[0]),
    "mean_over_batches": derivatives(lambda: flatness.mean_over_batches(loss, 8)),
    "mean_over_batches/uneven": derivatives(
        lambda: flatness.mean_over_batches(loss, 7)
    ),
    "mean_over_batches/eigenvalues": measure(
        *(flatness.hessian_eigenvalues, flatness.mean_over_batches(loss, 4)),
        num_matvecs=3,
    ),
    "loss_line": line,
    "loss_plane": plane,
    "linear_barrier": lambda params, direction, data: flatness.linear_barrier(
        loss, params, direction, args=data, num_points=3
    ),
    "critical_sharpness": lambda params, direction, data: flatness.critical_sharpness(
        loss, params, params, args=data
    ),
    "by_part": lambda params, direction, data: [
        flatness.expected_sharpness(
            part.loss_fn, part.params, key=0, num_samples=3, args=part.args
        )
        for part in flatness.by_part(loss, params, args=data).values()
    ],
    "filter_normalise": lambda params, direction, data: flatness.filter_normalise(
        direction, params
    ),
    "filter_normalise/first": lambda params, direction, data: flatness.filter_normalise(
        direction, params, filter_axis=0
    ),
    "escape_profile": escape(direction="isotropic"),
    "escape_profile/vector": escape(repeat_direction=True),
    "escape_profile/noise": escape(
        direction=draw,
        project=lambda point: jax.tree.map(lambda x: jnp.clip(x, -9.0, 9.0), point),
    ),
    "gradient_noise_direction": lambda params, direction, data: draw(
        jax.random.key(3), params, *data
    ),
    # Five examples, which four devices cannot share.
    "gradient_noise_direction/uneven": lambda params, direction, data: (
        flatness.gradient_noise_direction(loss, 5)(jax.random.key(3), params, *data)
    ),
}


def drawn(plot, result):
    """A case: all lines of a picture."""

    def case(*arguments):
        axes = plot(result(*arguments))
        return [curve.get_xydata() for curve in axes.lines]

    return case


PICTURES = {
    "plot_density": drawn(flatness.plot_density, density),
    "plot_escape_profile": drawn(
        flatness.plot_escape_profile, escape(direction="isotropic")
    ),
    "plot_line": drawn(flatness.plot_line, line),
    "plot_plane": drawn(flatness.plot_plane, plane),
}


def test_every_public_function_is_in_a_table():
    both = CASES | PICTURES
    assert sharding.names_of(both) == sharding.public_functions(flatness)


def placed(mesh, params, direction, data, placement):
    of_params, of_data = SHARDED[placement]
    return (
        sharding.place(mesh, params, of_params),
        sharding.place(mesh, direction, of_params),
        sharding.place(mesh, data, of_data),
    )


def check(case, placement, kind, *, compiled, set_mesh):
    with jax.enable_x64(True):
        params, direction, data = make()
        expected = case(params, direction, data)
        mesh = sharding.make_mesh(kind)
        arguments = placed(mesh, params, direction, data, placement)
        got, sent = sharding.run(
            case, arguments, mesh, compiled=compiled, set_mesh=set_mesh
        )
        if compiled:  # where all settings are arrays
            expected = jax.tree.map(jnp.asarray, expected)
        sharding.assert_equal_up_to(TOLERANCE, got, expected)
    return sent


# All but variants, which differ inside compiled code alone.
EAGERLY = [name for name in CASES | PICTURES if "/" not in name]


@pytest.mark.parametrize("name", EAGERLY)
def test_explicit_mesh_that_is_set(name):
    case = (CASES | PICTURES)[name]
    check(case, "both", "explicit", compiled=False, set_mesh=True)


@pytest.mark.parametrize("name", CASES)
def test_explicit_mesh_of_the_arguments_under_jit(name):
    """Losses are summed over devices; no array is put together on one of them.

    But examples for the draws of gradient noise, which are any of all.
    """
    sent = check(CASES[name], "both", "explicit", compiled=True, set_mesh=False)
    assert sent.pop("all-reduce", None) or name == "filter_normalise"
    largest = max(itertools.chain(*sent.values()), default=0)
    assert largest < (NUM_UNITS if "noise" in name else NUM_EXAMPLES), sent


def flattened_trace(params, direction, data):
    """What others do: one flat vector of all parameters."""
    del direction
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def of_flat(flat, *data):
        return loss(unravel(flat), *data)

    return flatness.hessian_trace(of_flat, flat, key=0, args=data, num_samples=2)


CURVATURES = [
    "hessian_eigenvalues",
    "hessian_trace",
    "hessian_density",
    "gauss_newton_loss/trace",
    "mean_over_batches/eigenvalues",
]


def sent_on_an_automatic_mesh(case, placement="both"):
    """By kind of collective, where the compiler chooses all but the arguments' places."""
    return check(case, placement, "auto", compiled=True, set_mesh=False)


@pytest.mark.parametrize("placement", ["params", "both"])
@pytest.mark.parametrize("name", CURVATURES)
def test_curvature_on_an_automatic_mesh_gathers_nothing(name, placement):
    """Each device sums its part of a product over the data, and inner products."""
    sent = sent_on_an_automatic_mesh(CASES[name], placement)
    assert set(sent) == {"all-reduce"}
    shard = NUM_PARAMETERS // 2  # the model axis has two devices
    largest = shard if placement == "both" else 2 * NUM_EXAMPLES
    assert max(sent["all-reduce"]) <= largest


def test_curvature_of_a_flat_vector_gathers():
    sent = sent_on_an_automatic_mesh(flattened_trace)
    assert (
        max(sent["all-gather"]) == sum(x.size for x in jax.tree.leaves(make()[0])) / 2
    )


def test_eigenvectors_on_an_automatic_mesh_are_sharded_like_the_parameters():
    with jax.enable_x64(True):
        arguments = placed(sharding.make_mesh("auto"), *make(), "both")
        vectors = jax.jit(CASES["hessian_eigenvalues"])(*arguments).vectors
    for name, x in vectors.items():
        wanted = jax.NamedSharding(x.sharding.mesh, P(None, *SPECS[name]))
        assert x.sharding.is_equivalent_to(wanted, x.ndim)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["set", "jit", "jit_set"])
@pytest.mark.parametrize("kind", sharding.KINDS)
@pytest.mark.parametrize("placement", SHARDED)
@pytest.mark.parametrize("name", CASES)
def test_every_way_to_shard(name, placement, kind, mode):
    compiled, set_mesh = mode.startswith("jit"), mode.endswith("set")
    check(CASES[name], placement, kind, compiled=compiled, set_mesh=set_mesh)


# Those that `jax.grad` is applied to outside of `jit`, which needs the mesh to be set.
DIFFERENTIATED = ("gauss_newton_loss", "mean_over_batches", "gradient_noise_direction")


@pytest.mark.parametrize("name", ["maximal_sharpness", "hessian_eigenvalues"])
def test_explicit_mesh_of_the_arguments_alone(name):
    check(CASES[name], "both", "explicit", compiled=False, set_mesh=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in EAGERLY if name not in DIFFERENTIATED]
)
def test_every_explicit_mesh_of_the_arguments_alone(name):
    case = (CASES | PICTURES)[name]
    check(case, "both", "explicit", compiled=False, set_mesh=False)


def specs_of(tree):
    return jax.tree.map(lambda x: jax.typeof(x).sharding.spec, tree)


def test_what_is_like_the_parameters_is_sharded_like_them():
    with jax.enable_x64(True):
        arguments = placed(sharding.make_mesh("explicit"), *make(), "both")

        @jax.jit
        def results(params, direction, data):
            return (
                CASES["hessian_eigenvalues"](params, direction, data).vectors,
                CASES["escape_profile"](params, direction, data).reference.params,
                CASES["filter_normalise"](params, direction, data),
                CASES["gradient_noise_direction"](params, direction, data),
            )

        vectors, *others = results(*arguments)
    assert specs_of(vectors) == {name: P(None, *SPECS[name]) for name in SPECS}
    for tree in others:
        assert specs_of(tree) == SPECS


def tensor_parallel_loss(params, inputs, targets):
    """What explicit sharding asks of a product over a sharded axis."""
    hidden = jnp.tanh(inputs @ params["in"] + params["bias"][None])
    outputs = jnp.einsum(
        "nh,ho->no", hidden, params["out"], out_sharding=P("data", None)
    )
    return loss_of_outputs(outputs, inputs, targets)


@pytest.mark.parametrize(
    "case",
    [
        lambda loss_fn: measure(flatness.expected_sharpness, loss_fn, num_samples=3),
        lambda loss_fn: measure(flatness.maximal_sharpness, loss_fn, **few_steps),
        lambda loss_fn: measure(flatness.hessian_trace, loss_fn, num_samples=2),
        lambda loss_fn: derivatives(lambda: flatness.mean_over_batches(loss_fn, 8)),
    ],
    ids=["expected_sharpness", "maximal_sharpness", "hessian_trace", "batches"],
)
def test_a_loss_that_tells_its_shardings(case):
    with jax.enable_x64(True):
        mesh = sharding.make_mesh("explicit")
        arguments = placed(mesh, *make(), "both")
        got, _ = sharding.run(
            case(tensor_parallel_loss), arguments, mesh, compiled=True, set_mesh=True
        )
        expected = jax.jit(case(loss))(*make())
        sharding.assert_equal_up_to(TOLERANCE, got, expected)
