"""Every rule and every differentiable case: transposes, finite differences, and all nestings of second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._core.operation import RULES
from tests.operations import DIFFERENTIABLE, RULE_INPUTS
from tests.operations.case import Case, tolerance
from tests.operations.inputs import general

RULE_CASES = [
    pytest.param(name, inputs, params, id=f"{name}-{i}")
    for name in RULE_INPUTS
    for i, (inputs, params) in enumerate(RULE_INPUTS[name])
]
both_fields = pytest.mark.parametrize("dtype", ["float64", "complex128"])
cases = pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)


def _like(rng: np.random.Generator, x) -> jax.Array:
    return jnp.asarray(general(rng, str(x.dtype), *x.shape))


def _pairing(xs, ys) -> jax.Array:
    """Re tr X^H Y, summed over all pairs of differentiable arrays."""
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
    return sum(jnp.real(jnp.vdot(x, y.astype(jnp.result_type(x, y)))) for x, y in pairs)


def _as_tuple(x) -> tuple:
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def test_every_rule_is_tested() -> None:
    assert linalgx.__all__
    assert set(RULES) == set(RULE_INPUTS)
    assert all(rules.source for rules in RULES.values())


@both_fields
@pytest.mark.parametrize(("name", "inputs", "params"), RULE_CASES)
def test_bwd_is_the_transpose_of_jvp(name, inputs, params, dtype, rng) -> None:
    rules = RULES[name]
    args = [jnp.asarray(x) for x in inputs(rng, dtype)]
    out, residuals = rules.fwd(*args, **params)
    tangents = [_like(rng, x) if jnp.issubdtype(x.dtype, jnp.inexact) else None for x in args]
    cotangents = [_like(rng, x) if jnp.issubdtype(x.dtype, jnp.inexact) else None for x in _as_tuple(out)]
    pushed = _as_tuple(rules.jvp(residuals, *tangents, **params))
    pulled = rules.bwd(residuals, cotangents[0] if len(cotangents) == 1 else tuple(cotangents), **params)
    pulled = [
        jnp.real(x) if x is not None and not jnp.iscomplexobj(t) else x for x, t in zip(pulled, tangents, strict=True)
    ]
    left, right = _pairing(cotangents, pushed), _pairing(pulled, tangents)
    scale = sum(
        float(jnp.linalg.norm(c)) * float(jnp.linalg.norm(p))
        for c, p in zip(cotangents, pushed, strict=True)
        if c is not None
    )
    assert abs(left - right) <= tolerance(dtype, 4, 10) * scale


def _scalar(case: Case, args, weights):
    """A smooth scalar function of the differentiable arguments: a random pairing with the view, bent."""

    def f(*moving):
        full = list(args)
        for i, x in zip(case.differentiate, moving, strict=True):
            full[i] = x
        leaves = [leaf for leaf in case.viewed(*full) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        return sum(jnp.sum(jnp.real(w * x + 0.1 * x * jnp.conj(x))) for w, x in zip(weights, leaves, strict=True))

    return f


def _setting(case: Case, dtype: str, rng: np.random.Generator):
    args = tuple(jnp.asarray(x) for x in case.arrays(rng, dtype))
    leaves = [leaf for leaf in case.viewed(*args) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    f = _scalar(case, args, [_like(rng, leaf) for leaf in leaves])
    at = tuple(args[i] for i in case.differentiate)
    return f, at, tuple(_like(rng, x) for x in at), tuple(_like(rng, x) for x in at)


def _along(f, at, direction):
    """t -> f(at + t direction)."""
    return lambda t: f(*(x + t.astype(x.dtype) * d for x, d in zip(at, direction, strict=True)))


def _finite_difference(g, h: float):
    """Derivative of g at 0, by central differences of order 6."""
    at = lambda k: g(jnp.asarray(k * h))
    return (45 * (at(1.0) - at(-1.0)) - 9 * (at(2.0) - at(-2.0)) + (at(3.0) - at(-3.0))) / (60 * h)


@both_fields
@cases
def test_first_derivative(case: Case, dtype: str, rng) -> None:
    if dtype not in case.dtypes:
        pytest.skip("not defined for this dtype")
    f, at, u, _ = _setting(case, dtype, rng)
    value, forward = jax.jit(lambda *x: jax.jvp(f, x, u))(*at)
    gradient = jax.jit(jax.grad(f, argnums=tuple(range(len(at)))))(*at)
    # JAX pairs without the conjugate
    reverse = sum(jnp.real(jnp.sum(g * d)) for g, d in zip(gradient, u, strict=True))
    scale = sum(float(jnp.linalg.norm(g)) * float(jnp.linalg.norm(d)) for g, d in zip(gradient, u, strict=True)) + abs(
        value
    )
    assert abs(forward - reverse) <= tolerance(dtype, 4, case.derivative_condition) * scale
    # the error of the difference is about eps / h + h^6: smallest near h = eps^(1/7)
    eps = float(jnp.finfo(dtype).eps)
    expected = _finite_difference(jax.jit(_along(f, at, u)), h=eps ** (1 / 7) / 4)
    assert abs(forward - expected) <= 10 * eps ** (6 / 7) * case.derivative_condition * scale


@both_fields
@cases
def test_second_derivative(case: Case, dtype: str, rng) -> None:
    if dtype not in case.dtypes:
        pytest.skip("not defined for this dtype")
    f, at, u, v = _setting(case, dtype, rng)
    argnums = tuple(range(len(at)))
    gradient = jax.grad(f, argnums=argnums)

    def pair(gs, ds):
        return sum(jnp.real(jnp.sum(g * d)) for g, d in zip(gs, ds, strict=True))

    nestings = {
        "fwd(fwd)": lambda *x: jax.jvp(lambda *x: jax.jvp(f, x, u)[1], x, v)[1],
        "fwd(rev)": lambda *x: pair(jax.jvp(gradient, x, v)[1], u),
        "rev(fwd)": lambda *x: pair(jax.grad(lambda *x: jax.jvp(f, x, u)[1], argnums=argnums)(*x), v),
        "rev(rev)": lambda *x: pair(jax.grad(lambda *x: pair(gradient(*x), u), argnums=argnums)(*x), v),
    }
    results = {name: float(jax.jit(nesting)(*at)) for name, nesting in nestings.items()}
    slope = jax.jit(lambda t: pair(gradient(*(x + t.astype(x.dtype) * d for x, d in zip(at, v, strict=True))), u))
    eps = float(jnp.finfo(dtype).eps)
    expected = float(_finite_difference(slope, h=eps ** (1 / 7) / 8))
    scale = abs(expected) + float(abs(slope(jnp.asarray(0.0))))
    for name, result in results.items():
        assert abs(result - results["fwd(fwd)"]) <= tolerance(dtype, 4, case.derivative_condition**1.5) * scale, results
        assert abs(result - expected) <= 100 * eps ** (6 / 7) * case.derivative_condition * scale, (
            name,
            results,
            expected,
        )
