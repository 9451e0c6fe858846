"""Every rule and every differentiable case: transposes, finite differences, and all nestings of second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._core.operation import RULES
from tests.operations import DIFFERENTIABLE, FIRST_CASES, RULE_INPUTS
from tests.operations.case import Case, tolerance
from tests.operations.inputs import general

RULE_CASES = [
    pytest.param(name, inputs, params, id=f"{name}-{i}")
    for name in RULE_INPUTS
    for i, (inputs, params) in enumerate(RULE_INPUTS[name])
]
slow = pytest.mark.slow
# complex numbers are the general case
both_fields = pytest.mark.parametrize("dtype", [pytest.param("float64", marks=slow), "complex128"])


def _settings(always) -> list:
    """Every differentiable case and dtype; those for which ``always`` is not true belong to the slow tests."""
    return [
        pytest.param(case, dtype, id=f"{case}-{dtype}", marks=() if always(case, dtype) else slow)
        for case in DIFFERENTIABLE
        for dtype in ("float64", "complex128")
        if dtype in case.dtypes
    ]


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
    shapes = jax.eval_shape(lambda *args: _as_tuple(rules.fwd(*args, **params)[0]), *args)
    tangents = [_like(rng, x) if jnp.issubdtype(x.dtype, jnp.inexact) else None for x in args]
    cotangents = tuple(_like(rng, x) if jnp.issubdtype(x.dtype, jnp.inexact) else None for x in shapes)

    @jax.jit
    def both_ways(args, tangents, cotangents):
        _, residuals = rules.fwd(*args, **params)
        pushed = _as_tuple(rules.jvp(residuals, *tangents, **params))
        return pushed, rules.bwd(residuals, cotangents[0] if len(cotangents) == 1 else cotangents, **params)

    pushed, pulled = both_ways(args, tangents, cotangents)
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


def _squared(x) -> jax.Array:
    """|x|^2, smooth also at 0."""
    return jnp.real(x) ** 2 + jnp.imag(x) ** 2


def _floating(case: Case, args) -> list[jax.Array]:
    return [leaf for leaf in case.viewed(*args) if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def _setting(case: Case, dtype: str, rng: np.random.Generator):
    """A smooth scalar function (a random pairing with the view, bent), where, and two directions."""
    args = case.arrays(rng, dtype)
    shapes = jax.eval_shape(lambda *x: _floating(case, x), *args)
    weights = [_like(rng, shape) for shape in shapes]

    def f(*moving):
        full = list(map(jnp.asarray, args))
        for i, x in zip(case.differentiate, moving, strict=True):
            full[i] = x
        terms = zip(weights, _floating(case, full), strict=True)
        return sum(jnp.sum(jnp.real(w * x) + 0.1 * _squared(x)) for w, x in terms)

    at = tuple(jnp.asarray(args[i]) for i in case.differentiate)
    return f, at, tuple(_like(rng, x) for x in at), tuple(_like(rng, x) for x in at)


def _pair(gradient, direction) -> jax.Array:
    """The directional derivative that a gradient of JAX stands for: it pairs without the conjugate."""
    return sum(jnp.real(jnp.sum(g * d)) for g, d in zip(gradient, direction, strict=True))


def _size(xs, ys) -> float:
    return sum(float(np.linalg.norm(x) * np.linalg.norm(y)) for x, y in zip(xs, ys, strict=True))


def _finite_difference(g, at, direction, h: float) -> tuple[float, float]:
    """Derivative of g along a direction, by central differences of order 6, and the scale of their error."""
    moved = jax.jit(lambda t: g(*(x + t.astype(x.dtype) * d for x, d in zip(at, direction, strict=True))))
    values = {k: float(moved(jnp.asarray(k * h))) for k in (-3, -2, -1, 1, 2, 3)}
    slope = (45 * (values[1] - values[-1]) - 9 * (values[2] - values[-2]) + (values[3] - values[-3])) / (60 * h)
    spread = max(values.values()) - min(values.values())
    return slope, abs(slope) + spread / h + max(map(abs, values.values()))


@pytest.mark.parametrize(("case", "dtype"), _settings(lambda case, dtype: dtype == "float64" or case in FIRST_CASES))
def test_first_derivative(case: Case, dtype: str, rng) -> None:
    f, at, u, _ = _setting(case, dtype, rng)
    argnums = tuple(range(len(at)))

    @jax.jit
    def both_modes(*x):
        return jax.jvp(f, x, u), jax.grad(f, argnums=argnums)(*x)

    (value, forward), gradient = both_modes(*at)
    scale = _size(gradient, u) + abs(float(value))
    assert abs(forward - _pair(gradient, u)) <= tolerance(dtype, 4, case.derivative_condition) * scale
    # the error of the difference is about eps / h + h^6: smallest near h = eps^(1/7)
    eps = float(jnp.finfo(dtype).eps)
    expected, _ = _finite_difference(f, at, u, h=eps ** (1 / 7) / 4)
    assert abs(forward - expected) <= 10 * eps ** (6 / 7) * case.derivative_condition * scale


def _complex_if_it_can(case: Case, dtype: str) -> bool:
    return case in FIRST_CASES and dtype == case.dtypes[-1]


@pytest.mark.parametrize(("case", "dtype"), _settings(_complex_if_it_can))
def test_second_derivative(case: Case, dtype: str, rng) -> None:
    f, at, u, v = _setting(case, dtype, rng)
    argnums = tuple(range(len(at)))
    gradient = jax.grad(f, argnums=argnums)
    slope = lambda *x: _pair(gradient(*x), u)

    @jax.jit
    def nestings(*x):
        along_u = lambda *x: jax.jvp(f, x, u)[1]
        return {
            "fwd(fwd)": jax.jvp(along_u, x, v)[1],
            "fwd(rev)": _pair(jax.jvp(gradient, x, v)[1], u),
            "rev(fwd)": _pair(jax.grad(along_u, argnums=argnums)(*x), v),
            "rev(rev)": _pair(jax.grad(slope, argnums=argnums)(*x), v),
        }

    results = {name: float(result) for name, result in nestings(*at).items()}
    eps = float(jnp.finfo(dtype).eps)
    expected, scale = _finite_difference(slope, at, v, h=eps ** (1 / 7) / 8)
    for name, result in results.items():
        report = f"{name}: {results}, by differences {expected}"
        agreement = tolerance(dtype, 4, case.derivative_condition**1.5) * scale
        assert abs(result - results["fwd(fwd)"]) <= agreement, report
        assert abs(result - expected) <= 100 * eps ** (6 / 7) * case.derivative_condition * scale, report
