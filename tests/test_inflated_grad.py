"""tail_inflated_grad: one backward pass equals three gradients, gated or not."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import heavytail_optax as hto
from heavytail_optax._inflation_weights import balanced_weights
from heavytail_optax._keys import tagged_key

PARETO = hto.tails.pareto(1.4)
KEY = jax.random.key(5)


def make_batch(seed, size, features=4):
    inputs_key, targets_key = jax.random.split(jax.random.key(seed))
    return (
        jax.random.normal(inputs_key, (size, features)),
        jax.random.normal(targets_key, (size,)),
    )


def mlp_params(key):
    first, second = jax.random.split(key)
    return {
        "w": jax.random.normal(first, (4, 8)),
        "b": jnp.full(8, 0.1),
        "v": jax.random.normal(second, (8,)),
    }


def mlp_losses(params, batch):
    inputs, targets = batch
    hidden = jnp.tanh(inputs @ params["w"] + params["b"][None, :])
    return (hidden @ params["v"] - targets) ** 2


def mean_grad(losses, params, batch):
    return jax.grad(lambda p: jnp.mean(losses(p, batch)))(params)


def keys_of(key):
    """The keys of the draw and of the split that a step makes of its key."""
    return jax.random.split(tagged_key(key, "tail_inflated_grad"))


def drawn_z(tail, scale, key):
    return scale * tail.sample(keys_of(key)[0])


def combine(scheme, losses, params, batches, z):
    """The paper's gradient, from a backward pass for each batch."""
    small = mean_grad(losses, params, batches[0])
    second = mean_grad(losses, params, batches[1 if scheme == "independent" else 0])
    large = mean_grad(losses, params, batches[-1])
    return jax.tree.map(lambda s, t, v: s + z * (t - v), small, second, large)


def batches_of(scheme, batch_of):
    sizes = {"independent": (6, 4, 16), "shared": (6, 16), "balanced": (6,)}[scheme]
    return [batch_of(seed, size) for seed, size in enumerate(sizes)]


def assert_close(actual, expected, tolerance):
    scale = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(expected))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("scheme", ["independent", "shared"])
def test_equals_three_gradients_in_float64(scheme):
    with jax.enable_x64(True):
        to_double = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64), tree)
        params = to_double(mlp_params(jax.random.key(1)))
        batches = to_double(batches_of(scheme, make_batch))
        grad_fn = hto.tail_inflated_value_and_grad(
            mlp_losses, PARETO, 0.5, scheme=scheme
        )
        value, grad = grad_fn(KEY, params, *batches)
        expected = combine(
            scheme, mlp_losses, params, batches, drawn_z(PARETO, 0.5, KEY)
        )
        # The weights are float32, so this is as close as they are.
        assert_close(grad, expected, 1e-6)
        np.testing.assert_allclose(
            value, jnp.mean(mlp_losses(params, batches[0])), rtol=1e-6
        )


def test_balanced_equals_the_gradients_of_its_halves():
    params, batch = mlp_params(jax.random.key(1)), make_batch(0, 7)
    _, grad = hto.tail_inflated_value_and_grad(mlp_losses, PARETO, 0.5)(
        KEY, params, batch
    )
    z = drawn_z(PARETO, 0.5, KEY)
    weights = balanced_weights(keys_of(KEY)[1], z, jnp.ones(7))
    rows = jax.vmap(
        lambda x, y: mean_grad(mlp_losses, params, (x[None], y[None])), in_axes=(0, 0)
    )(*batch)
    expected = jax.tree.map(lambda leaf: jnp.einsum("n,n...", weights, leaf), rows)
    assert_close(grad, expected, 1e-5)


def linen_model():
    model = nn.Dense(1)
    params = model.init(jax.random.key(2), jnp.zeros((1, 4)))
    return params, lambda p, batch: (model.apply(p, batch[0])[:, 0] - batch[1]) ** 2


def nnx_model():
    graphdef, params = nnx.split(nnx.Linear(4, 1, rngs=nnx.Rngs(0)))
    return nnx.as_pure(
        params
    ), lambda p, batch: (nnx.merge(graphdef, p)(batch[0])[:, 0] - batch[1]) ** 2


def equinox_model():
    params, static = eqx.partition(
        eqx.nn.MLP(4, 1, 8, 1, key=jax.random.key(3)), eqx.is_array
    )

    def losses(p, batch):
        model = eqx.combine(p, static)
        return (jax.vmap(model)(batch[0])[:, 0] - batch[1]) ** 2

    return params, losses


@pytest.mark.parametrize("model", [linen_model, nnx_model, equinox_model])
@pytest.mark.parametrize("scheme", ["independent", "shared"])
def test_equals_three_gradients_in_each_library(model, scheme):
    params, losses = model()
    batches = batches_of(scheme, make_batch)
    grad_fn = jax.jit(
        hto.tail_inflated_value_and_grad(losses, PARETO, 0.5, scheme=scheme)
    )
    _, grad = grad_fn(KEY, params, *batches)
    assert jax.tree.structure(grad) == jax.tree.structure(params)
    expected = combine(scheme, losses, params, batches, drawn_z(PARETO, 0.5, KEY))
    assert_close(grad, expected, 1e-5)


@pytest.mark.parametrize("scheme", ["independent", "shared", "balanced"])
def test_without_scale_it_is_the_plain_gradient(scheme):
    params, batches = mlp_params(jax.random.key(1)), batches_of(scheme, make_batch)
    grad_fn = hto.tail_inflated_value_and_grad(mlp_losses, PARETO, 0.0, scheme=scheme)
    value, grad = grad_fn(KEY, params, *batches)
    assert_close(grad, mean_grad(mlp_losses, params, batches[0]), 1e-6)
    np.testing.assert_allclose(
        value, jnp.mean(mlp_losses(params, batches[0])), rtol=1e-6
    )


@pytest.mark.parametrize("scheme", ["independent", "shared", "balanced"])
def test_value_is_the_plain_mean_of_the_small_batch(scheme):
    params, batches = mlp_params(jax.random.key(1)), batches_of(scheme, make_batch)
    grad_fn = hto.tail_inflated_value_and_grad(mlp_losses, PARETO, 50.0, scheme=scheme)
    value, _ = grad_fn(KEY, params, *batches)
    np.testing.assert_allclose(
        value, jnp.mean(mlp_losses(params, batches[0])), rtol=1e-6
    )


def test_agrees_with_inflate_gradient_noise():
    """The same Z on the same noise, as a transformation of the plain gradient."""
    params, batches = mlp_params(jax.random.key(1)), batches_of("shared", make_batch)
    transformation = hto.inflate_gradient_noise(PARETO, 0.5, key=9)
    small, large = (mean_grad(mlp_losses, params, batch) for batch in batches)
    noise = jax.tree.map(jnp.subtract, small, large)
    updates, state = transformation.update(
        small, transformation.init(params), params, gradient_noise=noise
    )

    class Fixed:
        """A tail that gives the draw of the transformation."""

        tail_index, right_tail_weight, is_centred = 1.4, 1.0, False

        def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
            return jnp.broadcast_to(state.inflation_draw, shape)

        def tail_probability(self, x):
            return PARETO.tail_probability(x)

    grad_fn = hto.tail_inflated_value_and_grad(
        mlp_losses, Fixed(), 0.5, scheme="shared"
    )
    _, grad = grad_fn(KEY, params, *batches)
    assert_close(grad, updates, 1e-5)


@pytest.mark.parametrize("scheme", ["independent", "shared"])
def test_gated_steps_compute_nothing_of_the_other_batches(scheme):
    seen = []

    def losses(params, batch):
        jax.debug.callback(lambda size: seen.append(int(size)), batch[0].shape[0])
        return mlp_losses(params, batch)

    params, batches = mlp_params(jax.random.key(1)), batches_of(scheme, make_batch)
    grad_fn = jax.jit(
        hto.tail_inflated_value_and_grad(
            losses, PARETO, 0.5, scheme=scheme, inflate_above=0.8
        )
    )
    total = sum(len(batch[1]) for batch in batches)
    keys = jax.random.split(jax.random.key(4), 40)
    draws = np.asarray([PARETO.sample(keys_of(key)[0]) for key in keys])
    above = draws > float(PARETO.quantile(0.8))
    assert 0 < above.sum() < 40
    plain = mean_grad(mlp_losses, params, batches[0])
    for key, is_above in zip(keys, above, strict=True):
        seen.clear()
        _, grad = grad_fn(key, params, *batches)
        jax.effects_barrier()
        assert set(seen) == {total if is_above else 6}
        if not is_above:
            assert_close(grad, plain, 1e-6)


def test_steps_of_scale_zero_compute_nothing_of_the_other_batches():
    seen = []

    def losses(params, batch):
        jax.debug.callback(lambda size: seen.append(int(size)), batch[0].shape[0])
        return mlp_losses(params, batch)

    params, batches = mlp_params(jax.random.key(1)), batches_of("shared", make_batch)
    cooldown = optax.piecewise_constant_schedule(0.5, {2: 0.0})
    grad_fn = jax.jit(
        hto.tail_inflated_value_and_grad(losses, PARETO, cooldown, scheme="shared")
    )
    for step, size in ((0, 22), (1, 22), (2, 6), (3, 6)):
        seen.clear()
        grad_fn(KEY, params, *batches, step=step)
        jax.effects_barrier()
        assert set(seen) == {size}


def test_gate_opens_in_its_share_of_the_steps_and_leaves_the_tail():
    """Z is zero in a share q of the steps; above the gate its law is that of c W."""
    params, batch = jnp.zeros(2), jnp.eye(2)

    def losses(params, batch):
        return batch @ params

    grad_fn = hto.tail_inflated_value_and_grad(losses, PARETO, 0.5, inflate_above=0.9)
    keys = jax.random.split(jax.random.key(8), 50_000)
    grads = jax.jit(jax.vmap(lambda key: grad_fn(key, params, batch)[1]))(keys)
    z = np.abs(np.asarray(grads[:, 0] - grads[:, 1]))  # the noise is +-z/2 on each
    # Binomial errors; the bound of 4.5 is a false alarm of 7e-6 for each of four.
    for x in (0.0, 0.5 * float(PARETO.quantile(0.9)) * 0.99, 5.0, 50.0):
        expected = min(0.1, float(PARETO.tail_probability(x / 0.5)))
        error = np.sqrt(expected * (1 - expected) / len(z))
        assert abs(np.mean(z > x) - expected) < 4.5 * error


@pytest.mark.parametrize("scheme", ["shared", "balanced"])
@pytest.mark.parametrize(
    ("alpha", "scale", "gate"),
    [(-1.0, 0.5, 0.5), (1.4, -1.0, 0.5), (1.4, 0.5, 1.5), (1.4, 0.5, jnp.nan)],
)
def test_bad_traced_values_give_nan_through_the_gate(scheme, alpha, scale, gate):
    params, batches = mlp_params(jax.random.key(1)), batches_of(scheme, make_batch)

    @jax.jit
    def grad(alpha, scale, gate):
        grad_fn = hto.tail_inflated_value_and_grad(
            mlp_losses,
            hto.tails.pareto(alpha),
            scale,
            scheme=scheme,
            inflate_above=gate,
        )
        return grad_fn(KEY, params, *batches)[1]

    bad = grad(*(jnp.asarray(x) for x in (alpha, scale, gate)))
    assert all(bool(jnp.isnan(leaf).all()) for leaf in jax.tree.leaves(bad))


def test_the_draw_is_not_one_that_the_user_makes_of_the_same_key():
    own = {float(PARETO.sample(key)) for key in jax.random.split(KEY, 64)}
    assert float(drawn_z(PARETO, 1.0, KEY)) not in own


def test_an_overflowing_draw_leaves_the_gradient_finite():
    """Alpha 0.05 reaches the end of float32 in one draw of sixty."""
    params, batch = mlp_params(jax.random.key(1)), make_batch(0, 6)
    grad_fn = hto.tail_inflated_value_and_grad(mlp_losses, hto.tails.pareto(0.05), 10.0)
    keys = jax.random.split(jax.random.key(0), 400)
    grads = jax.vmap(lambda key: grad_fn(key, params, batch)[1])(keys)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))


def test_schedules_of_scale_and_tail_are_read_at_the_step():
    params, batches = mlp_params(jax.random.key(1)), batches_of("shared", make_batch)
    cooldown = optax.join_schedules(
        [optax.constant_schedule(0.5), optax.constant_schedule(0.0)], [3]
    )
    grad_fn = jax.jit(
        hto.tail_inflated_value_and_grad(
            mlp_losses,
            lambda step: hto.tails.pareto(1.2 + 0.1 * step),
            cooldown,
            scheme="shared",
        )
    )
    _, noisy = grad_fn(KEY, params, *batches, step=2)
    z = drawn_z(hto.tails.pareto(1.4), 0.5, KEY)
    assert_close(noisy, combine("shared", mlp_losses, params, batches, z), 1e-5)
    _, quiet = grad_fn(KEY, params, *batches, step=3)
    assert_close(quiet, mean_grad(mlp_losses, params, batches[0]), 1e-6)


def test_aux_is_that_of_the_small_batch():
    def losses(params, batch):
        predictions = batch[0] @ params["w"] @ params["v"]
        return (predictions - batch[1]) ** 2, {"predictions": predictions}

    params, batches = mlp_params(jax.random.key(1)), batches_of("shared", make_batch)
    for q in (0.0, 0.9):
        grad_fn = hto.tail_inflated_value_and_grad(
            losses, PARETO, 0.5, scheme="shared", has_aux=True, inflate_above=q
        )
        (_, aux), _ = grad_fn(KEY, params, *batches)
        expected = batches[0][0] @ params["w"] @ params["v"]
        np.testing.assert_allclose(aux["predictions"], expected, rtol=1e-5)


@pytest.mark.parametrize("scheme", ["independent", "shared", "balanced"])
@pytest.mark.parametrize("size", [1, 4, 26, 100])
def test_microbatches_give_the_same_gradient_value_and_aux(scheme, size):
    """Also where the last one is not full, or one holds all."""

    def losses(params, batch):
        return mlp_losses(params, batch), {"targets": batch[1]}

    params, batches = mlp_params(jax.random.key(1)), batches_of(scheme, make_batch)
    options = {"scheme": scheme, "has_aux": True}
    whole = hto.tail_inflated_value_and_grad(losses, PARETO, 0.5, **options)
    parts = hto.tail_inflated_value_and_grad(
        losses, PARETO, 0.5, **options, microbatch_size=size
    )
    (value, aux), grad = whole(KEY, params, *batches)
    (value_of_parts, aux_of_parts), grad_of_parts = jax.jit(parts)(
        KEY, params, *batches
    )
    np.testing.assert_allclose(value_of_parts, value, rtol=1e-6)
    np.testing.assert_array_equal(aux_of_parts["targets"], aux["targets"])
    assert_close(grad_of_parts, grad, 1e-5)


LARGE_BATCHES = {"independent": (60, 60, 200), "shared": (60, 200), "balanced": (320,)}


def scans_in(jaxpr):
    """Lengths of all loops of a program."""
    inner = jax.extend.core.jaxprs_in_params
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            found.append(equation.params["length"])
        found += [n for each in inner(equation.params) for n in scans_in(each)]
    return found


@pytest.mark.parametrize("place", ["one device", "eight devices"])
@pytest.mark.parametrize("scheme", LARGE_BATCHES)
def test_on_a_cpu_large_batches_are_passed_in_parts(scheme, place):
    """With masks, gated and not, and with batches that lie on several devices."""
    params = mlp_params(jax.random.key(1))
    sizes = LARGE_BATCHES[scheme]
    batches = [make_batch(seed, size) for seed, size in enumerate(sizes)]
    masks = tuple(jnp.arange(size) % 5 != 0 for size in sizes)
    if place == "eight devices":
        mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        # Of 60 examples no eighth is whole.
        spec = lambda size: jax.P("data" if size % 8 == 0 else None)
        batches, masks = jax.tree.map(
            lambda x: jax.device_put(
                x, jax.sharding.NamedSharding(mesh, spec(x.shape[0]))
            ),
            (batches, masks),
        )

    def inflated(microbatch_size, q=0.0):
        return hto.tail_inflated_value_and_grad(
            *(mlp_losses, PARETO, 0.5),
            scheme=scheme,
            inflate_above=q,
            microbatch_size=microbatch_size,
        )

    parts = [] if scheme == "balanced" else [-(-sum(sizes) // 50)]
    jaxpr = jax.make_jaxpr(inflated(None))(KEY, params, *batches)
    assert [n for n in scans_in(jaxpr.jaxpr) if n in range(2, 9)] == parts
    for q in (0.0, 0.3):
        of_default = jax.jit(inflated(None, q))(KEY, params, *batches, masks=masks)
        of_whole = jax.jit(inflated(sum(sizes), q))(KEY, params, *batches, masks=masks)
        assert_close(of_default, of_whole, 1e-5)


@pytest.mark.parametrize("scheme", ["independent", "shared"])
def test_on_a_cpu_no_more_memory_is_taken_than_by_one_pass(scheme):
    params = mlp_params(jax.random.key(1))
    sizes = LARGE_BATCHES[scheme]
    batches = [make_batch(seed, 4 * size) for seed, size in enumerate(sizes)]

    def bytes_of(size):
        grad_fn = hto.tail_inflated_value_and_grad(
            mlp_losses, PARETO, 0.5, scheme=scheme, microbatch_size=size
        )
        program = jax.jit(grad_fn).lower(KEY, params, *batches).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert bytes_of(None) <= bytes_of(10_000)


def test_padding_counts_as_nothing():
    params, (inputs, targets) = mlp_params(jax.random.key(1)), make_batch(0, 6)
    large = make_batch(1, 8)
    padded = jnp.pad(inputs, ((0, 2), (0, 0)), constant_values=3.0)
    padded = (padded, jnp.pad(targets, (0, 2), constant_values=1e3))
    mask = jnp.arange(8) < 6
    grad_fn = hto.tail_inflated_value_and_grad(mlp_losses, PARETO, 0.5, scheme="shared")
    value, grad = grad_fn(KEY, params, (inputs, targets), large)
    masked_value, masked_grad = grad_fn(KEY, params, padded, large, masks=(mask, None))
    np.testing.assert_allclose(masked_value, value, rtol=1e-6)
    assert_close(masked_grad, grad, 1e-5)


def test_balanced_needs_two_examples():
    """Of one there are no halves: it would be plain SGD without a word."""
    params, batch = mlp_params(jax.random.key(1)), make_batch(0, 1)
    balanced = hto.tail_inflated_value_and_grad(mlp_losses, PARETO, 0.5)
    with pytest.raises(ValueError, match="`small_batch`.*at least 2 .*Got 1 instead"):
        balanced(KEY, params, batch)
    with pytest.raises(ValueError, match="`small_batch`.*`group_inflation_factors`"):
        jax.eval_shape(balanced, KEY, params, batch)
    # One at a time is another matter, and so is one example in the other schemes.
    two = make_batch(0, 2)
    each = hto.tail_inflated_value_and_grad(mlp_losses, PARETO, 0.5, microbatch_size=1)
    plain = mean_grad(mlp_losses, params, two)
    assert_close(each(KEY, params, two)[1], balanced(KEY, params, two)[1], 1e-5)
    with pytest.raises(AssertionError):
        assert_close(each(KEY, params, two)[1], plain, 1e-2)
    shared = hto.tail_inflated_value_and_grad(mlp_losses, PARETO, 0.5, scheme="shared")
    z = drawn_z(PARETO, 0.5, KEY)
    expected = combine("shared", mlp_losses, params, (batch, two), z)
    assert_close(shared(KEY, params, batch, two)[1], expected, 1e-5)


def test_one_example_that_a_mask_leaves_has_the_plain_gradient():
    params, batch = mlp_params(jax.random.key(1)), make_batch(0, 4)
    mask = jnp.arange(4) == 2
    grad_fn = jax.jit(hto.tail_inflated_value_and_grad(mlp_losses, PARETO, 0.5))
    value, grad = grad_fn(KEY, params, batch, masks=(mask,))
    one = jax.tree.map(lambda x: x[2:3], batch)
    # Alone, the row of a batch may be rounded otherwise.
    losses = jax.jit(mlp_losses)(params, batch)
    np.testing.assert_allclose(value, losses[2], rtol=1e-6)
    assert_close(grad, mean_grad(mlp_losses, params, one), 1e-5)


@pytest.mark.parametrize("scheme", ["independent", "shared", "balanced"])
def test_an_empty_batch_is_named_and_padding_is_what_masks_are_for(scheme):
    params, batches = mlp_params(jax.random.key(1)), batches_of(scheme, make_batch)
    names = {
        "independent": ("small_batch", "second_small_batch", "large_batch"),
        "shared": ("small_batch", "large_batch"),
        "balanced": ("small_batch",),
    }[scheme]
    grad_fn = hto.tail_inflated_value_and_grad(mlp_losses, PARETO, 0.5, scheme=scheme)
    for place, name in enumerate(names):
        empty = list(batches)
        empty[place] = jax.tree.map(lambda x: x[:0], batches[place])
        with pytest.raises(ValueError, match=f"`{name}`.*one example.*`masks`"):
            grad_fn(KEY, params, *empty)
    # Nothing but padding: no gradient.
    masks = tuple(jnp.zeros(len(batch[1]), bool) for batch in batches)
    value, grad = grad_fn(KEY, params, *batches, masks=masks)
    assert value == 0.0
    assert all(bool((x == 0).all()) for x in jax.tree.leaves(grad))


def test_a_regulariser_is_not_inflated():
    """Added to each loss it enters as it is, for the weights sum to one."""
    params, batches = mlp_params(jax.random.key(1)), batches_of("shared", make_batch)
    penalty = lambda p: 0.1 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))
    with_penalty = lambda p, batch: mlp_losses(p, batch) + penalty(p)
    _, plain = hto.tail_inflated_value_and_grad(
        mlp_losses, PARETO, 0.5, scheme="shared"
    )(KEY, params, *batches)
    _, regularised = hto.tail_inflated_value_and_grad(
        with_penalty, PARETO, 0.5, scheme="shared"
    )(KEY, params, *batches)
    expected = jax.tree.map(jnp.add, plain, jax.grad(penalty)(params))
    assert_close(regularised, expected, 1e-5)


def test_losses_in_half_precision_are_refused():
    """Their cotangents are the weights in bfloat16: 1 + Z without the one."""

    def losses(params, batch):
        return mlp_losses(params, batch).astype(jnp.bfloat16)

    params, batch = mlp_params(jax.random.key(1)), make_batch(0, 6)
    with pytest.raises(ValueError, match="losses in float32 or wider"):
        hto.tail_inflated_value_and_grad(losses, PARETO, 0.5)(KEY, params, batch)


def test_parameters_in_half_precision_have_float32_weights():
    """With Z = 1000 on examples that are all alike the mean gradient is left."""

    def losses(params, batch):
        return batch.astype(jnp.float32) @ params.astype(jnp.float32)

    params = jnp.ones(2, jnp.bfloat16)
    batch, large = jnp.ones((4, 2), jnp.bfloat16), jnp.ones((16, 2), jnp.bfloat16)
    grad_fn = hto.tail_inflated_value_and_grad(losses, PARETO, 1000.0, scheme="shared")
    _, grad = grad_fn(KEY, params, batch, large)
    assert grad.dtype == jnp.bfloat16
    np.testing.assert_allclose(grad.astype(jnp.float32), jnp.ones(2), rtol=0.02)


def test_the_loss_must_come_per_example():
    params, batch = mlp_params(jax.random.key(1)), make_batch(0, 6)
    mean_loss = lambda p, b: jnp.mean(mlp_losses(p, b))
    with pytest.raises(ValueError, match="one loss for each of the 6 examples"):
        hto.tail_inflated_value_and_grad(mean_loss, PARETO, 0.5)(KEY, params, batch)


def test_wrong_batches_and_missing_step_are_named():
    params, batch = mlp_params(jax.random.key(1)), make_batch(0, 6)
    grad_fn = hto.tail_inflated_value_and_grad(
        mlp_losses, PARETO, 0.5, scheme="independent"
    )
    with pytest.raises(TypeError, match="second_small_batch, large_batch"):
        grad_fn(KEY, params, batch)
    scheduled = hto.tail_inflated_value_and_grad(mlp_losses, PARETO, lambda step: 0.5)
    with pytest.raises(TypeError, match="`step` argument"):
        scheduled(KEY, params, batch)
    with pytest.raises(TypeError, match="`step` argument"):
        scheduled(KEY, params, batch, step=2.7)
    with pytest.raises(ValueError, match="`large_batch` .* like small_batch"):
        grad_fn(KEY, params, batch, batch, batch[0])
    with pytest.raises(ValueError, match="leading axis"):
        grad_fn(KEY, params, batch, (batch[0], batch[1][:3]), batch)


@pytest.mark.parametrize("has_aux", [False, True])
def test_what_comes_back_has_the_form_of_jax(has_aux):
    """Of `jax.value_and_grad` and of `jax.grad`, and both from the same draw."""

    def losses(params, batch):
        each = (batch - params) ** 2
        return (each, {"each": each}) if has_aux else each

    def mean_loss(params, batch):
        out = losses(params, batch)
        return (out[0].mean(), out[1]) if has_aux else out.mean()

    batch = jnp.arange(4.0)
    for ours, theirs in (
        (hto.tail_inflated_value_and_grad, jax.value_and_grad),
        (hto.tail_inflated_grad, jax.grad),
    ):
        got = ours(losses, PARETO, 0.0, has_aux=has_aux)(KEY, 1.0, batch)
        expected = theirs(mean_loss, has_aux=has_aux)(1.0, batch)
        assert jax.tree.structure(got) == jax.tree.structure(expected)
        jax.tree.map(np.testing.assert_allclose, got, expected)
    _, grad = hto.tail_inflated_value_and_grad(losses, PARETO, 0.5, has_aux=has_aux)(
        KEY, 1.0, batch
    )
    alone = hto.tail_inflated_grad(losses, PARETO, 0.5, has_aux=has_aux)(
        KEY, 1.0, batch
    )
    np.testing.assert_array_equal(alone[0] if has_aux else alone, grad)
