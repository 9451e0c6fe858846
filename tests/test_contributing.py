"""The worked example of CONTRIBUTING.md is right."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

from linalgx._core.operation import RULES

PAGE = pathlib.Path(__file__).parent.parent / "CONTRIBUTING.md"


def test_worked_example(rng) -> None:
    names: dict = {"__name__": "example"}
    try:
        for program in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
            exec(program, names)
    finally:
        RULES.pop("gram", None)
    gram = names["gram"]
    A, dA = (jnp.asarray(rng.standard_normal((2, 4, 3)) + 1j * rng.standard_normal((2, 4, 3))) for _ in range(2))
    expected = np.conj(np.swapaxes(A, -1, -2)) @ np.asarray(A)
    np.testing.assert_allclose(gram(A), expected, rtol=1e-13)
    np.testing.assert_allclose(names["gram_kernel"](jnp.moveaxis(A, 0, -1)), np.moveaxis(expected, 0, -1), rtol=1e-13)
    # both modes, and reverse over forward, against those that JAX finds by itself
    theirs = lambda A: jnp.conj(jnp.swapaxes(A, -1, -2)) @ A
    loss = lambda f: lambda A: jnp.sum(jnp.sin(jnp.real(f(A))) + jnp.imag(f(A)) ** 3)
    for f, g in ((gram, theirs),):
        np.testing.assert_allclose(jax.jvp(f, (A,), (dA,))[1], jax.jvp(g, (A,), (dA,))[1], rtol=1e-12)
        np.testing.assert_allclose(jax.grad(loss(f))(A), jax.grad(loss(g))(A), rtol=1e-11)
        slope = lambda f: lambda A: jnp.real(jax.jvp(loss(f), (A,), (dA,))[1])
        np.testing.assert_allclose(jax.grad(slope(f))(A), jax.grad(slope(g))(A), rtol=1e-10)
