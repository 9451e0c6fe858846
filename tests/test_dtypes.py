"""Integers, half precision, single precision, and promotion between arguments."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from tests.operations import FIRST_CASES
from tests.operations.case import Case, assert_close, tolerance

REAL_CASES = [case for case in FIRST_CASES if "float32" in case.dtypes]
DIFFERENTIABLE = [case for case in REAL_CASES if case.differentiate]


def _convert(args, dtype):
    return [jnp.asarray(x, dtype) if np.issubdtype(x.dtype, np.inexact) else jnp.asarray(x) for x in args]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("case", REAL_CASES, ids=str)
def test_half_precision_is_computed_in_single(case: Case, dtype, rng) -> None:
    halves = _convert(case.arrays(rng, "float32"), dtype)
    ours = case(*halves)
    single = case(*(x.astype(jnp.float32) if x.dtype == dtype else x for x in halves))
    expected = jax.tree.map(lambda x: x.astype(dtype) if x.dtype == jnp.float32 else x, single)
    # two compilations may round differently in float32, and by that to the next 16-bit number
    as_single = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == dtype else x, tree)
    jax.tree.map(lambda x, y: np.testing.assert_equal(x.dtype, y.dtype), ours, expected)
    assert_close(case.view(as_single(ours)), case.view(as_single(expected)), 8 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("case", [case for case in REAL_CASES if case.function != "matrix_power"], ids=str)
def test_integers_promote(case: Case, rng) -> None:
    args = [np.rint(4 * x) if np.issubdtype(x.dtype, np.floating) else x for x in case.arrays(rng, "float64")]
    integers = [x.astype(np.int64) if np.issubdtype(x.dtype, np.floating) else x for x in args]
    shapes = jax.eval_shape(case, *map(jnp.asarray, args))
    integer_shapes = jax.eval_shape(case, *map(jnp.asarray, integers))
    if not all(jnp.issubdtype(x.dtype, jnp.integer) for x in jax.tree.leaves(integer_shapes)):
        assert jax.tree.map(lambda x: x.dtype, shapes) == jax.tree.map(lambda x: x.dtype, integer_shapes)


MIXED = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "int8", "uint32", "int64", "bool")
OF_TWO_ARRAYS = {
    "solve": linalgx.solve,
    "solve_triangular": lambda a, b: linalgx.solve_triangular(a, b, upper=True),
    "cholesky_solve": lambda a, b: linalgx.cholesky_solve(b, a),
    "lu_solve": lambda a, b: linalgx.lu_solve(a, jnp.arange(2), b),
    "ldl_solve": lambda a, b: linalgx.ldl_solve(a, jnp.arange(2), b),
    "lstsq": lambda a, b: linalgx.lstsq(a, b).solution,
    "tensorsolve": linalgx.tensorsolve,
    "ormqr": lambda a, b: linalgx.ormqr(a, jnp.zeros(2, a.dtype), b[:, None]),
}


@pytest.mark.parametrize("name", OF_TWO_ARRAYS)
def test_two_arrays_promote_as_in_jax(name: str) -> None:
    """First together, by JAX's rules, and then to floating numbers."""
    for first, second in itertools.product(MIXED, repeat=2):
        a, b = jnp.eye(2, dtype=first), jnp.ones(2, second)
        with jax.numpy_dtype_promotion("standard"):
            out = jax.eval_shape(OF_TWO_ARRAYS[name], a, b)
            promoted = jnp.promote_types(first, second)
        if not jnp.issubdtype(promoted, jnp.inexact):
            promoted = jnp.float64 if promoted.itemsize == 8 else jnp.float32
        assert out.dtype == promoted, (first, second)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
def test_tolerances_do_not_decide_the_dtype(dtype) -> None:
    a, b = jnp.eye(2, dtype=dtype), jnp.ones(2, dtype)
    for tolerance_ in (0.1, np.float64(0.1), jnp.float32(0.1)):
        for keyword in ("rtol", "atol", "rcond"):
            assert linalgx.pinv(a, **{keyword: tolerance_}).dtype == dtype
        assert linalgx.lstsq(a, b, rcond=tolerance_).solution.dtype == dtype
    assert linalgx.norm(b, ord=np.float64(3)).dtype == dtype
    assert linalgx.norm(jnp.arange(3, dtype=jnp.int32), ord=np.float16(2)).dtype == jnp.float32


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_single_precision_gradient(case: Case, rng) -> None:
    """The gradient in float32 is that in float64, to float32's accuracy."""
    args = case.arrays(rng, "float32")

    def f(*moving):
        full = list(_convert(args, moving[0].dtype))
        for i, x in zip(case.differentiate, moving, strict=True):
            full[i] = x
        leaves = [leaf for leaf in case.viewed(*full) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        return sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in leaves)

    gradient = jax.jit(jax.grad(f, argnums=tuple(range(len(case.differentiate)))))
    single = gradient(*(jnp.asarray(args[i], jnp.float32) for i in case.differentiate))
    double = gradient(*(jnp.asarray(args[i], jnp.float64) for i in case.differentiate))
    scale = max(float(jnp.max(jnp.abs(g), initial=0)) for g in double)
    for x, y in zip(single, double, strict=True):
        assert x.dtype == jnp.float32
        assert float(jnp.max(jnp.abs(x - y.astype(jnp.float32)), initial=0)) <= (
            tolerance("float32", 4, case.derivative_condition) * scale
        )


@pytest.mark.parametrize("case", REAL_CASES, ids=str)
def test_without_x64(case: Case, rng) -> None:
    """Nothing asks for float64 or int64 on its own (which would warn)."""
    with jax.enable_x64(False):
        out = case(*_convert(case.arrays(rng, "float32"), jnp.float32))
        assert all(leaf.dtype.itemsize <= 8 for leaf in jax.tree.leaves(out))
        assert all(leaf.dtype not in (jnp.float64, jnp.int64, jnp.complex128) for leaf in jax.tree.leaves(out))
