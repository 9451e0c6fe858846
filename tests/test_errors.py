"""Wrong arguments raise when traced: the right type, and a message that names function and argument."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from tests.operations import CASES, ERRORS, FIRST_CASES
from tests.operations.case import Case

ids = [f"{error[0]}-{i}" for i, error in enumerate(ERRORS)]


@pytest.mark.parametrize(("function", "args", "options", "kind", "message"), ERRORS, ids=ids)
def test_message(function, args, options, kind, message) -> None:
    with pytest.raises(kind, match=message):
        getattr(linalgx, function)(*args, **options)
    arrays = tuple(x for x in args if isinstance(x, np.ndarray))
    if arrays and len(arrays) == len(args) and all(x.dtype.kind in "fc" for x in arrays):
        with pytest.raises(kind, match=message):
            jax.eval_shape(lambda *xs: getattr(linalgx, function)(*xs, **options), *map(jnp.asarray, arrays))


def _refuses(case: Case, kind: Any, words: str, *args, **options) -> None:
    """The call raises, in our own words."""
    with pytest.raises(kind) as caught:
        getattr(linalgx, case.function)(*args, **{**case.options, **options})
    text = str(caught.value.args[0])
    assert text.startswith(f"linalgx.{case.function}: "), text
    assert words in text


def _called(case: Case, args) -> tuple:
    return (list(args),) if case.as_list else tuple(args)


NO_ARRAYS = {
    "None": None,
    "list": [[1.0, 2.0], [3.0, 4.0]],
    "tuple": (np.eye(2), np.eye(2)),
    "string": "matrix",
    "dict": {"a": np.eye(2)},
    "object": object(),
    "class": np.ndarray,
    "function": np.linalg.inv,
    "set": {1.0, 2.0},
    "array of strings": np.array([["a", "b"], ["c", "d"]]),
    "array of objects": np.array([[None, 1], [2, 3]]),
    "dates": np.zeros((2, 2), "datetime64[s]"),
    "too large": 10**30,
    "keys": jax.random.split(jax.random.key(0), (2, 2)),
}


@pytest.mark.parametrize("case", FIRST_CASES, ids=str)
def test_arguments_that_are_not_arrays(case: Case, rng) -> None:
    args = case.arrays(rng, "float64")
    for place in range(len(args)):
        for wrong in NO_ARRAYS.values():
            _refuses(case, TypeError, "", *_called(case, [*args[:place], wrong, *args[place + 1 :]]))


def _parameters(case: Case) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(linalgx, case.function)).parameters)


def _static(case: Case) -> list[str]:
    """The names of the arguments that are no arrays."""
    return [name for name, p in _parameters(case).items() if "ArrayLike" not in str(p.annotation)]


@pytest.mark.parametrize("case", FIRST_CASES, ids=str)
def test_calls_that_do_not_fit_the_signature(case: Case, rng) -> None:
    args = _called(case, case.arrays(rng, "float64"))
    for wrong in (0, "yes", [1], jnp.ones(2)):
        _refuses(case, TypeError, "unexpected keyword argument 'unknown'", *args, unknown=wrong)
    _refuses(case, TypeError, "missing a required")
    _refuses(case, TypeError, "its arguments are", *args, *[0] * 9)


@pytest.mark.parametrize("case", FIRST_CASES, ids=str)
def test_options_of_the_wrong_kind(case: Case, rng) -> None:
    args = _called(case, case.arrays(rng, "float64"))
    parameters = _parameters(case)
    for name in _static(case):
        if parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY:
            continue
        given = args[: list(parameters).index(name)]
        _refuses(case, TypeError, name, *given, **{name: jnp.ones(2)})
        _refuses(case, TypeError, name, *given, **{name: {1: 2}})
        for wrong in (object(), "nonsense", (None,), np.nan):
            _refuses(case, (TypeError, ValueError), "", *given, **{name: wrong})

        def traced(x, name=name, given=given):
            return getattr(linalgx, case.function)(*given, **{**case.options, name: x})

        with pytest.raises(TypeError, match=rf"linalgx\.{case.function}: {name} must be static"):
            jax.eval_shape(traced, jnp.int32(1))
        if parameters[name].annotation == "bool":
            for wrong in (None, 2, 0.5, "no", (True,)):
                _refuses(case, TypeError, f"{name} must be True or False", *given, **{name: wrong})


@pytest.mark.parametrize("case", [case for case in FIRST_CASES if case.function != "multi_dot"], ids=str)
def test_eight_bit_floats(case: Case, rng) -> None:
    """They are refused, but by what JAX itself computes in any dtype: products, and parts of a matrix."""
    tiny = [
        jnp.asarray(x, jnp.float8_e4m3fn) if np.issubdtype(x.dtype, np.inexact) else jnp.asarray(x)
        for x in case.arrays(rng, "float32")
    ]
    if case.function in PRODUCTS:
        jax.eval_shape(case, *tiny)
    else:
        _refuses(case, TypeError, "must promote to one of float32, float64, complex64, complex128", *tiny)


PRODUCTS = "matmul vecdot outer cross tensordot vander diagonal trace matrix_transpose".split()


def test_dtypes_that_do_not_promote() -> None:
    a, b = jnp.eye(2, dtype=jnp.float32), jnp.ones(2, jnp.float64)
    for function in (linalgx.solve, linalgx.lstsq, linalgx.matmul, linalgx.tensordot):
        options = {"axes": 1} if function is linalgx.tensordot else {}
        with pytest.raises(TypeError, match=r"of dtype float32 and .* of dtype float64 have no common dtype"):
            function(a, b, **options)
        with jax.numpy_dtype_promotion("standard"):
            assert jax.tree.leaves(function(a, b, **options))[0].dtype == jnp.float64


def test_pivots_that_do_not_fit_into_int32_are_no_row_numbers() -> None:
    pivots = jnp.array([0, 2**32 + 1])
    assert jnp.isnan(linalgx.lu_solve(jnp.eye(2), pivots, jnp.ones(2))).all()
    assert jnp.isnan(linalgx.lu_unpack(jnp.eye(2), pivots).P).all()
    assert jnp.isnan(linalgx.ldl_solve(jnp.eye(2), pivots + 1, jnp.ones(2))).all()


def test_pivots_that_are_not_those_of_ldl_factor() -> None:
    wrong = jnp.array(
        [[0, 2, 3], [1, 2, 4], [1, -2, 3], [-2, -2, -3], [-1, 2, -3], [1, 2, 3], [-2, -2, 3], [1, -3, -3]]
    )
    x = linalgx.ldl_solve(jnp.broadcast_to(2 * jnp.eye(3) + jnp.eye(3, k=-1), (8, 3, 3)), wrong, jnp.ones((3, 1)))
    assert jnp.isnan(x).all(axis=(-2, -1)).tolist() == [True] * 5 + [False] * 3
    assert jnp.isfinite(x[5:]).all()


def test_every_function_has_errors_in_the_table() -> None:
    assert {case.function for case in CASES} <= {error[0] for error in ERRORS}


def test_linalg_error_is_numpys() -> None:
    assert issubclass(linalgx.LinAlgError, np.linalg.LinAlgError)
    assert linalgx.LinAlgError.__module__ == "linalgx"
