"""Against PyHessian, on one network with the same weights, in PyTorch on the CPU."""

import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import small_network

from heavytail_optax._keys import tagged_key
from heavytail_optax.flatness import hessian_eigenvalues, hessian_trace

pytestmark = [
    pytest.mark.slow,
    # PyTorch's own, about how PyHessian calls it.
    pytest.mark.filterwarnings("ignore:Using backward"),
]
torch = pytest.importorskip("torch")
pyhessian = pytest.importorskip("pyhessian")

PARAMS, ARGS = small_network.make()


@pytest.fixture(scope="module")
def theirs():
    """PyHessian's operator for `small_network`."""
    network = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3, bias=False)
    )
    inputs, labels = (torch.tensor(np.asarray(x)) for x in ARGS)
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor(np.asarray(PARAMS["first"].T)))
        network[0].bias.copy_(torch.tensor(np.asarray(PARAMS["bias"])))
        network[2].weight.copy_(torch.tensor(np.asarray(PARAMS["second"].T)))
    criterion = torch.nn.CrossEntropyLoss()
    data = (inputs, labels.long())
    loss = criterion(network(data[0]), data[1]).item()
    np.testing.assert_allclose(loss, small_network.loss(PARAMS, *ARGS), rtol=1e-5)
    return pyhessian.hessian(network, criterion, data=data, cuda=False)


def in_their_order(vector):
    """A pytree like the parameters as PyTorch lists and orients them."""
    leaves = (vector["first"].T, vector["bias"], vector["second"].T)
    return [torch.tensor(np.asarray(leaf, np.float32)) for leaf in leaves]


def test_top_eigenvalues_and_vectors(theirs):
    values, vectors = theirs.eigenvalues(maxIter=2000, tol=1e-9, top_n=2)
    ours = hessian_eigenvalues(
        small_network.loss,
        PARAMS,
        key=0,
        args=ARGS,
        num_eigenvalues=2,
        which="magnitude",
        num_matvecs=48,
    )
    np.testing.assert_allclose(ours.values, values, rtol=1e-3)
    for index, vector in enumerate(vectors):
        own = in_their_order(jax.tree.map(lambda x, i=index: x[i], ours.vectors))
        cosine = sum(float(torch.sum(a * b)) for a, b in zip(own, vector, strict=True))
        np.testing.assert_allclose(abs(cosine), 1.0, rtol=1e-3)


def test_trace_with_the_same_random_signs(theirs, monkeypatch):
    num_samples = 200
    key = tagged_key(0, "hessian_trace")
    flat, unravel = jax.flatten_util.ravel_pytree(PARAMS)
    signs = []
    for index in range(num_samples):
        sample_key = jax.random.fold_in(key, index)
        own = jax.random.rademacher(sample_key, (1, flat.size), jnp.float32)[0]
        signs += in_their_order(unravel(own))
    remaining = iter(signs)
    monkeypatch.setattr(
        torch, "randint_like", lambda like, **_: next(remaining).clone()
    )
    # At tolerance zero it would still stop early, wherever the running mean is negative.
    samples = theirs.trace(maxIter=num_samples, tol=-math.inf)
    ours = hessian_trace(
        small_network.loss, PARAMS, key=0, args=ARGS, num_samples=num_samples
    )
    np.testing.assert_allclose(ours.mean, np.mean(samples), rtol=1e-3)
    error = np.std(samples, ddof=1) / np.sqrt(num_samples)
    np.testing.assert_allclose(ours.standard_error, error, rtol=1e-3)
    assert next(remaining, None) is None
