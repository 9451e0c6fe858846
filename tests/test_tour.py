"""The tour prints the numbers that are known: `python -m linalgx`, part by part."""

import io

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from linalgx import __main__ as tour


def _printed(part) -> str:
    console = Console(file=io.StringIO(), markup=False, highlight=False, soft_wrap=True, width=200)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        part(console)
    return console.file.getvalue()


def test_machine() -> None:
    assert jax.__version__ in _printed(tour._show_machine)


def test_classic_sampler() -> None:
    text = _printed(tour._show_classic_sampler)
    assert "[2.9502426  1.78518077 1.83168697 0.90798228]" in text
    assert text.count("4.2371274912420") == 2
    assert "[[-0.5, 0.5], [0.5, -0.5]]" in text


def test_degenerate_gradients() -> None:
    text = _printed(tour._show_degenerate_gradients)
    right, ours = (
        [line.split(maxsplit=n)[-1] for line in text.splitlines() if line.strip().startswith(name)]
        for name, n in (("right answer", 2), ("linalgx", 1))
    )
    assert len(right) == 2
    assert right == ours


def test_both_sides_of_the_comparison_compute_the_same() -> None:
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((5, 4, 4))
    mu, noise = (jnp.asarray(rng.standard_normal((5, 4))) for _ in range(2))
    sigma = jnp.asarray(factor @ factor.transpose(0, 2, 1) + np.eye(4))
    with jax.numpy_dtype_promotion("standard"):
        ours, theirs = (jax.jit(tour._monte_carlo(*tour._functions(s)))(mu, sigma, noise) for s in ("linalgx", "jax"))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12), ours, theirs)
