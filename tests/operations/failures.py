"""Failures that are put into members of a batch: one or more for every public function that can fail."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import linalgx
from tests.operations.inputs import general, hermitian, positive_definite, triangular, well_conditioned

N, BATCH = 3, 5
SPOILED = ((0,), (2,), (4,), (1, 3))
"""Which members of a batch fail: the first, one in the middle, the last, two."""


@dataclasses.dataclass(frozen=True)
class Injection:
    """A failure that is put into members of a batch.

    Attributes:
        function: the public name that the message carries.
        label: what is wrong.
        call: the function of the arrays.
        inputs: good arrays of one member, from a generator and a dtype name.
        spoil: what makes the first of them (or the one at ``place``) bad.
        cause: how the message ends.
        derivative: whether the first argument has a derivative.
        real: whether it fails for real arrays alone.
        every: whether it stands for its kind in the tests of all dtypes and of all transformations.
    """

    function: str
    label: str
    call: Callable[..., Any]
    inputs: Callable[[np.random.Generator, str], tuple[Any, ...]]
    spoil: Callable[[np.ndarray], np.ndarray]
    cause: str
    place: int = 0
    derivative: bool = True
    real: bool = False
    every: bool = False

    def __str__(self) -> str:
        return f"{self.function}-{self.label}"

    def batch(self, rng: np.random.Generator, dtype: str, size: int = BATCH) -> list[np.ndarray]:
        members = [self.inputs(rng, dtype) for _ in range(size)]
        return [np.stack(x) for x in zip(*members, strict=True)]

    def spoiled(self, arrays: list[np.ndarray], members: tuple[int, ...]) -> list[jax.Array]:
        arrays = [x.copy() for x in arrays]
        for i in members:
            arrays[self.place][i] = self.spoil(arrays[self.place][i])
        return [jnp.asarray(x) for x in arrays]

    def message(self, members: tuple[int, ...], size: int = BATCH) -> str:
        return (
            f"linalgx.{self.function}: {len(members)} of {size} matrices failed, "
            f"the first at batch index ({members[0]},): {self.cause}"
        )


def _put(*index: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def put(x: np.ndarray) -> np.ndarray:
        x[index] = value
        return x

    return put


def _symmetric(*index: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def put(x: np.ndarray) -> np.ndarray:
        x[index] = x[index[::-1]] = value
        return x

    return put


def _zero_column(x: np.ndarray) -> np.ndarray:
    x[:, 1] = 0
    return x


def _negative(x: np.ndarray) -> np.ndarray:
    x[0] *= -np.sign(np.linalg.det(x).real)
    return x


_general = lambda rng, d: (well_conditioned(rng, d, N, N),)
_tall = lambda rng, d: (well_conditioned(rng, d, 4, N),)
_definite = lambda rng, d: (positive_definite(rng, d, N),)
_hermitian = lambda rng, d: (hermitian(rng, d, N),)
_triangle = lambda rng, d: (triangular(rng, d, N),)
_with_rhs = lambda inputs: lambda rng, d: (*inputs(rng, d), general(rng, d, N, 2))
_tall_system = lambda rng, d: (*_tall(rng, d), general(rng, d, 4, 2))
_factors = lambda rng, d: (triangular(rng, d, N, upper=True), np.array([1, 2, 2], np.int32))
_ldl_factors = lambda rng, d: (triangular(rng, d, N), np.array([2, 3, 3], np.int32), general(rng, d, N, 2))

NAN, HOLDS_NAN = np.nan, "the input holds NaN or infinity"
ZERO_PIVOT, SINGULAR = "U[1, 1] is exactly zero", "the matrix is singular: U[1, 1] is exactly zero"

INJECTIONS = [
    Injection(
        "cholesky",
        "indefinite",
        linalgx.cholesky,
        _definite,
        _put(1, 1, value=-5),
        "the leading minor of order 2 is not positive definite",
        every=True,
    ),
    Injection("cholesky", "NaN", linalgx.cholesky, _definite, _put(0, 0, value=NAN), HOLDS_NAN),
    Injection(
        "cholesky",
        "one triangle",
        lambda A: linalgx.cholesky(A, upper=True, symmetrize_input=False),
        _definite,
        _put(2, 2, value=0),
        "the leading minor of order 3 is not positive definite",
    ),
    Injection(
        "cholesky_solve",
        "zero",
        lambda L, b: linalgx.cholesky_solve(b, L),
        _with_rhs(_triangle),
        _put(1, 1, value=0),
        "L[1, 1] is exactly zero",
    ),
    Injection(
        "cholesky_inverse",
        "zero",
        linalgx.cholesky_inverse,
        _triangle,
        _put(2, 2, value=0),
        "L[2, 2] is exactly zero",
    ),
    Injection(
        "cholesky_logdet", "negative", linalgx.cholesky_logdet, _triangle, _put(1, 1, value=-1), "L[1, 1] is negative"
    ),
    Injection(
        "solve_triangular",
        "zero",
        functools.partial(linalgx.solve_triangular, upper=False),
        _with_rhs(_triangle),
        _put(1, 1, value=0),
        "a[1, 1] is exactly zero",
    ),
    Injection("lu_factor", "singular matrix", linalgx.lu_factor, _general, _zero_column, ZERO_PIVOT, derivative=False),
    Injection(
        "lu",
        "without interchanges",
        lambda A: linalgx.lu(A, pivot=False),
        _definite,
        _put(0, 0, value=0),
        "U[0, 0] is exactly zero",
    ),
    Injection("lu_solve", "singular", linalgx.lu_solve, _with_rhs(_factors), _put(1, 1, value=0), ZERO_PIVOT),
    Injection(
        "lu_solve",
        "pivots",
        linalgx.lu_solve,
        _with_rhs(_factors),
        _put(0, value=7),
        "the pivots are not row numbers",
        place=1,
        derivative=False,
    ),
    Injection(
        "lu_unpack",
        "pivots",
        linalgx.lu_unpack,
        _factors,
        _put(2, value=-1),
        "the pivots are not row numbers",
        place=1,
        derivative=False,
    ),
    Injection(
        "ldl_factor",
        "zero block",
        linalgx.ldl_factor,
        _hermitian,
        np.zeros_like,
        "D[0, 0] is exactly zero",
        derivative=False,
    ),
    Injection("ldl_factor", "NaN", linalgx.ldl_factor, _hermitian, _symmetric(1, 0, value=NAN), HOLDS_NAN),
    Injection("ldl_solve", "singular", linalgx.ldl_solve, _ldl_factors, _put(1, 1, value=0), "D is singular at [1, 1]"),
    Injection(
        "ldl_solve",
        "pivots",
        linalgx.ldl_solve,
        _ldl_factors,
        _put(2, value=-1),
        "the pivots are not row numbers",
        place=1,
        derivative=False,
    ),
    Injection("eigh", "NaN", linalgx.eigh, _hermitian, _symmetric(1, 0, value=NAN), HOLDS_NAN, every=True),
    Injection("eigh", "one triangle", lambda A: linalgx.eigh(A, "U"), _hermitian, _put(0, 2, value=np.inf), HOLDS_NAN),
    Injection("eigvalsh", "infinity", linalgx.eigvalsh, _hermitian, _put(1, 1, value=np.inf), HOLDS_NAN),
    Injection("eig", "NaN", linalgx.eig, _general, _put(1, 0, value=NAN), HOLDS_NAN),
    Injection("eigvals", "infinity", linalgx.eigvals, _general, _put(0, 2, value=-np.inf), HOLDS_NAN),
    Injection("svd", "NaN", linalgx.svd, _tall, _put(3, 0, value=NAN), HOLDS_NAN, every=True),
    Injection("svd", "values", lambda A: linalgx.svd(A, compute_uv=False), _tall, _put(3, 0, value=NAN), HOLDS_NAN),
    Injection(
        "svd", "hermitian", lambda A: linalgx.svd(A, hermitian=True), _hermitian, _put(0, 0, value=np.inf), HOLDS_NAN
    ),
    Injection("svdvals", "infinity", linalgx.svdvals, _tall, _put(0, 0, value=np.inf), HOLDS_NAN),
    Injection("solve", "singular", linalgx.solve, _with_rhs(_general), _zero_column, SINGULAR, every=True),
    Injection("inv", "singular", linalgx.inv, _general, _zero_column, SINGULAR, every=True),
    Injection("matrix_power", "singular", lambda A: linalgx.matrix_power(A, -2), _general, _zero_column, SINGULAR),
    Injection("pinv", "NaN", linalgx.pinv, _tall, _put(0, 0, value=NAN), HOLDS_NAN),
    Injection("pinv", "tolerance", lambda A: linalgx.pinv(A, 0.1), _tall, _put(0, 0, value=NAN), HOLDS_NAN),
    Injection("lstsq", "NaN", linalgx.lstsq, _tall_system, _put(0, 0, value=NAN), HOLDS_NAN),
    Injection(
        "logdet",
        "negative",
        linalgx.logdet,
        _definite,
        _negative,
        "the determinant is negative",
        derivative=False,
        real=True,
    ),
    Injection("cond", "NaN", linalgx.cond, _general, _put(0, 0, value=NAN), HOLDS_NAN),
    Injection("matrix_rank", "NaN", linalgx.matrix_rank, _general, _put(0, 0, value=NAN), HOLDS_NAN, derivative=False),
    Injection(
        "matrix_norm",
        "infinity",
        lambda A: linalgx.matrix_norm(A, ord=2),
        _general,
        _put(0, 0, value=np.inf),
        HOLDS_NAN,
    ),
    Injection("norm", "NaN", lambda A: linalgx.norm(A, "nuc", (-2, -1)), _general, _put(0, 0, value=NAN), HOLDS_NAN),
]
