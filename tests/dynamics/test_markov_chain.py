import numpy as np
import pytest

import heavytail_optax as hto
from heavytail_optax.dynamics._markov_chain import _classes, _stationary

DYNAMICS = hto.dynamics
INF = float("inf")


def chain_of(landscape=None, alpha=1.2, *, max_norm=0.5, within=None):
    rates = DYNAMICS.exit_rates(
        DYNAMICS.four_minima() if landscape is None else landscape,
        tail=hto.tails.symmetric_pareto(alpha),
        scale=0.1,
        max_norm=max_norm,
    )
    return DYNAMICS.markov_chain(rates, within=within)


@pytest.mark.parametrize(
    ("alpha", "rates", "stationary"),
    [
        (1.2, (0.14269, 1.15653), (0.890, 0.110)),
        (1.5, (0.24075, 2.29714), (0.905, 0.095)),
    ],
)
def test_the_chain_on_the_two_wide_minima(alpha, rates, stationary):
    chain = chain_of(alpha=alpha)
    assert chain.is_irreducible
    assert chain.classes == ((0, 1, 2, 3),)
    assert (chain.wide, chain.narrow, chain.max_jumps) == ((1, 3), (0, 2), 2)
    np.testing.assert_allclose(
        chain.generator, [[-rates[0], rates[0]], [rates[1], -rates[1]]], atol=5.1e-6
    )
    np.testing.assert_allclose(chain.stationary, stationary, atol=5.1e-4)
    assert chain.notes == ()


def test_start_and_embedded_chain_against_simulation():
    """The first wide field from a narrow start, and the next one after a wide one."""
    chain = chain_of()
    np.testing.assert_allclose(chain.start[[1, 3]], np.eye(2))
    np.testing.assert_allclose(chain.start[0], [1.0, 0.0])
    rng = np.random.default_rng(0)
    number, hits = 20_000, np.zeros(2)
    for _ in range(number):
        state = 2
        while state not in chain.wide:
            state = rng.choice(4, p=chain.embedded[state])
        hits[chain.wide.index(state)] += 1
    sd = np.sqrt(chain.start[2].prod() / number)
    # A false alarm at 5 s.d. has a chance of 6e-7.
    assert np.abs(hits / number - chain.start[2]).max() < 5.0 * sd


def random_chain(rng, size):
    generator = rng.uniform(0.1, 1.0, (size, size)) ** 6
    np.fill_diagonal(generator, 0.0)
    np.fill_diagonal(generator, -generator.sum(axis=-1))
    return generator


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_stationary_laws(size):
    generator = random_chain(np.random.default_rng(size), size)
    law = _stationary(generator)
    np.testing.assert_allclose(law @ generator, 0.0, atol=1e-14)
    np.testing.assert_allclose(law.sum(), 1.0)


def test_classes_of_a_graph():
    edges = np.zeros((5, 5), bool)
    for start, stop in ((0, 1), (1, 0), (1, 2), (2, 3), (3, 4), (4, 2)):
        edges[start, stop] = True
    assert _classes(edges) == ((0, 1), (2, 3, 4))


def test_the_limit_of_the_occupation():
    """`pi_j ~ h sum_i pi_i q_ij / q_j` at narrow j; at wide ones Y's stationary law."""
    chain = chain_of()
    eta = 1e-12
    shares = chain.occupation(eta)
    np.testing.assert_allclose(shares[[1, 3]], chain.stationary, atol=2e-3)
    h = 0.1**1.2 * eta**0.2
    between, total = chain.rates.between_fields, chain.rates.total
    first = h * (shares @ between)[[0, 2]] / total[[0, 2]]
    np.testing.assert_allclose(shares[[0, 2]], first, rtol=1e-9)
    # To first order at eta 1e-3: .0168 and .0015 of the weights of Y.
    h = 0.1**1.2 * 1e-3**0.2
    limit = np.asarray([0.0, chain.stationary[0], 0.0, chain.stationary[1]])
    np.testing.assert_allclose(
        h * (limit @ between)[[0, 2]] / total[[0, 2]], [0.0168, 0.0015], atol=5.1e-5
    )
    # It falls like h, so by 10^-0.2 with each decade of eta.
    ratio = chain.occupation(1e-13)[0] / shares[0]
    np.testing.assert_allclose(ratio, 10.0**-0.2, rtol=1e-3)


def test_a_reducible_graph_is_restricted_to_its_absorbing_class():
    chain = chain_of(max_norm=0.61)
    assert not chain.is_irreducible
    assert chain.classes == ((0, 1), (2, 3))
    assert chain.absorbing == (True, False)
    assert (chain.fields, chain.wide, chain.narrow) == ((0, 1), (0, 1), ())
    # With its own L: nothing is eliminated, although elsewhere l* is 2.
    assert chain.max_jumps == 1
    assert any("none of them is eliminated" in note for note in chain.notes)
    assert any("classes" in note for note in chain.notes)
    with pytest.raises(ValueError, match="`within` argument of `markov_chain`"):
        chain_of(max_norm=0.61, within=2)


def test_several_absorbing_classes_have_to_be_chosen_from():
    # The way over the middle takes three jumps, over the outer maxima one or two.
    landscape = DYNAMICS.wells_landscape([0.0, 0.8, 3.4, 4.2], [0.3, 2.1, 3.9], 1.0)
    with pytest.raises(ValueError, match=r"\[0, 1\] \(absorbing\), \[2, 3\] \(abs"):
        chain_of(landscape, max_norm=0.45)
    chain = chain_of(landscape, max_norm=0.45, within=3)
    assert (chain.fields, chain.wide, chain.narrow) == ((2, 3), (2,), (3,))
    np.testing.assert_allclose(chain.generator, [[0.0]], atol=1e-12)
    np.testing.assert_allclose(chain.stationary, [1.0])


def test_chains_that_leave_the_landscape_have_no_limit():
    with pytest.raises(ValueError, match="`within` argument of `markov_chain`"):
        chain_of(DYNAMICS.quadratic(1.0, 0.9, 0.7))


def test_one_field_without_an_end():
    chain = chain_of(DYNAMICS.wells_landscape([0.0], []))
    assert chain.wide == (0,)
    np.testing.assert_array_equal(chain.generator, [[0.0]])
    np.testing.assert_array_equal(chain.occupation(1e-3), [1.0])
