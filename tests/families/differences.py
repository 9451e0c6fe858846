"""Derivatives in both modes against differences of a NumPy function that is well defined where ours is in question."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.operations.inputs import general

# what differences of order 6 leave in float64 at h = 1e-3: eps / h and h^6 times the size of the derivatives
FD = 1e-9


def difference(f: Callable[[Any], Any], a: np.ndarray, direction: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """Derivative of ``f`` at ``a`` along ``direction``."""
    at = lambda k: np.asarray(f(a + k * h * direction))
    return (45 * (at(1) - at(-1)) - 9 * (at(2) - at(-2)) + (at(3) - at(-3))) / (60 * h)


def assert_derivative(ours: Callable[[Any], Any], theirs: Callable[[Any], Any], a, rng, rtol: float = FD) -> None:
    """Along a random direction, both modes of ``ours`` give the difference of ``theirs``."""
    direction = general(rng, str(a.dtype), *a.shape)
    expected = difference(theirs, a, direction)
    weights = general(rng, str(expected.dtype), *expected.shape)

    @jax.jit
    def both_modes(a, direction):
        out, forward = jax.jvp(ours, (a,), (direction,))
        gradient = jax.grad(lambda x: jnp.real(jnp.sum(weights * ours(x))))(a)
        return out, forward, jnp.real(jnp.sum(gradient * direction))

    out, forward, reverse = both_modes(jnp.asarray(a), jnp.asarray(direction))
    scale = np.linalg.norm(expected) + np.linalg.norm(out)
    np.testing.assert_allclose(forward, expected, rtol=0, atol=rtol * scale)
    assert abs(reverse - np.real(np.sum(weights * expected))) <= rtol * scale * np.linalg.norm(weights)
