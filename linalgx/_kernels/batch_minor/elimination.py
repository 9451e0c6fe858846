"""Gaussian elimination with partial pivoting of small matrices, the batch on the last axis.

Pivots are those of LAPACK: the first of the largest, complex numbers compared by |Re| + |Im|.

Sources: Golub & Van Loan, Matrix Computations, section 3.4; Higham, Accuracy and Stability of Numerical Algorithms,
section 14.3 (the inverse: method B, LAPACK's).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from linalgx._core.loops import in_parts, materialise
from linalgx._core.matrix import sum_of_parts
from linalgx._kernels.batch_minor.triangular import solve_triangular
from linalgx._kernels.exponents import by_power_of_two, product
from linalgx._kernels.interchanges import order_of_rows


def lu_factor(A: jax.Array, *, pivot: bool) -> tuple[jax.Array, jax.Array]:
    """L and U in one matrix, and the row interchanges counted from 0."""
    return _in_parts(functools.partial(_lu_factor, pivot=pivot), A)


def _lu_factor(A: jax.Array, *, pivot: bool) -> tuple[jax.Array, jax.Array]:
    keep = _keep(A)
    rows, pivots = [], []
    remaining = A
    for j in range(min(A.shape[:2])):
        top, rest, choice = _exchange(remaining, j, keep) if pivot else _in_order(remaining)
        factors = _multipliers(rest[:, j], top[j], pivot)
        right = rest[:, j + 1 :] - factors[:, None] * top[None, j + 1 :]
        remaining = keep(jnp.concatenate([rest[:, :j], factors[:, None], right], axis=1))
        rows.append(top)
        pivots.append(choice + j)
    return jnp.concatenate([jnp.stack(rows), remaining]), jnp.stack(pivots)


def lu_solve(LU: jax.Array, pivots: jax.Array, B: jax.Array, *, left: bool, adjoint: bool) -> jax.Array:
    """X with op(A) X = B (left) or X op(A) = B, where A = P L U and op(A) is A or A^H; NaN if U has a zero pivot."""
    if not left:
        # X op(A) = B is op(A)^H X^H = B^H
        return _adjoint(lu_solve(LU, pivots, _adjoint(B), left=True, adjoint=not adjoint))
    solve = functools.partial(_lu_solve, adjoint=adjoint)
    # one column is a few loops, which all cores share
    return solve(LU, pivots, B) if B.shape[1] == 1 else _in_parts(solve, LU, pivots, B)


def _lu_solve(LU: jax.Array, pivots: jax.Array, B: jax.Array, *, adjoint: bool) -> jax.Array:
    keep = _keep(LU)
    if adjoint:
        Y = solve_triangular(LU, B, lower=False, adjoint=True)
        X = _interchange(pivots, keep(_unit_solve(LU, Y, adjoint=True)), back=True)
    else:
        X = solve_triangular(LU, _unit_solve(LU, keep(_interchange(pivots, B))), lower=False)
    return jnp.where(_any_zero([LU[i, i] for i in range(LU.shape[0])]), jnp.nan, X)


def inv(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inverse, NaN if a pivot is zero, and info."""
    X, pivots, _ = _invert(A)
    return X, _info(list(pivots))


def det(A: jax.Array) -> jax.Array:
    """The determinant."""
    pivots, odd = _pivots(A)
    return _determinant(list(pivots), odd)


def slogdet(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sign of the determinant and the logarithm of its modulus."""
    pivots, odd = _pivots(A)
    return _sign_and_logarithm(list(pivots), odd)


def slogdet_and_inverse(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sign and logarithm of the determinant, and the inverse."""
    X, pivots, odd = _invert(A)
    return *_sign_and_logarithm(list(pivots), odd), X


def det_and_inverse(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The determinant and the inverse."""
    X, pivots, odd = _invert(A)
    return _determinant(list(pivots), odd), X


# --- elimination


def _pivots(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The pivots, and whether the permutation is odd."""

    def pivots(A: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows, odd = _eliminate(A)
        return jnp.stack([row[0] for row in rows]), odd

    return _in_parts(pivots, A)


def _invert(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The inverse, NaN if a pivot is zero; the pivots; and whether the permutation is odd."""

    def invert(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        rows, odd = _eliminate(_with_identity(A))
        pivots = [row[0] for row in rows]
        return jnp.where(_any_zero(pivots), jnp.nan, _substitute_back(rows)), jnp.stack(pivots), odd

    return _in_parts(invert, A)


def _eliminate(A: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """The rows of U, and of what stands on the right of the square part of A, each from its pivot on; and whether
    the permutation is odd.
    """
    keep = _keep(A)
    rows, odd = [], jnp.zeros(A.shape[-1:], bool)
    remaining = A
    for _ in range(A.shape[0]):
        top, rest, choice = _exchange(remaining, 0, keep)
        factors = _multipliers(rest[:, 0], top[0], True)
        remaining = keep(rest[:, 1:] - factors[:, None] * top[None, 1:])
        rows.append(top)
        odd = odd ^ (choice != 0)
    return rows, odd


def _exchange(A: jax.Array, column: int, keep: Callable[..., Any]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The row with the largest entry of the column; the others, with the first row in its place; its number."""
    choice = keep(_largest(list(A[:, column])))
    others = jnp.arange(1, A.shape[0], dtype=jnp.int32)[:, None, None]
    return keep(_chosen(choice, list(A))), jnp.where(choice == others, A[:1], A[1:]), choice


def _largest(column: list[jax.Array]) -> jax.Array:
    """The number of the first of the largest entries."""
    largest, choice = sum_of_parts(column[0]), jnp.zeros(column[0].shape, jnp.int32)
    for i, entry in enumerate(column[1:], start=1):
        modulus = sum_of_parts(entry)
        larger = modulus > largest
        largest, choice = jnp.where(larger, modulus, largest), jnp.where(larger, jnp.int32(i), choice)
    return choice


def _chosen(choice: jax.Array, rows: Sequence[jax.Array]) -> jax.Array:
    """The row with this number."""
    chosen = rows[0]
    for i, row in enumerate(rows[1:], start=1):
        chosen = jnp.where(choice == i, row, chosen)
    return chosen


def _in_order(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What :func:`_exchange` gives where nothing is exchanged."""
    return A[0], A[1:], jnp.zeros(A.shape[-1:], jnp.int32)


def _interchange(pivots: jax.Array, X: jax.Array, *, back: bool = False) -> jax.Array:
    """P^T X, or (``back``) P X."""
    n, keep = X.shape[0], _keep(X)
    order = keep(jnp.stack(order_of_rows(list(pivots), n)))
    own = jnp.arange(n, dtype=order.dtype)[:, None]
    moved = jnp.zeros_like(X)
    for i in range(n):
        here = order[i] == own if back else order == i
        moved = jnp.where(here[:, None], X[i], moved)
    return moved


def _multipliers(column: jax.Array, pivot: jax.Array, pivoted: bool) -> jax.Array:
    """Column / pivot. What is zero needs no elimination: with a largest entry of zero all of the column."""
    if pivoted:
        return column / jnp.where(pivot == 0, 1, pivot)
    return jnp.where(column == 0, 0, column / pivot)


def _unit_solve(LU: jax.Array, B: jax.Array, *, adjoint: bool = False) -> jax.Array:
    """X with op(L) X = B, each row materialised as soon as it is there."""
    n, keep = LU.shape[0], _keep(LU)
    rows: dict[int, jax.Array] = {}
    for i in reversed(range(n)) if adjoint else range(n):
        row = B[i]
        for k, known in rows.items():
            row = row - (jnp.conj(LU[k, i]) if adjoint else LU[i, k]) * known
        rows[i] = keep(row)
    return jnp.stack([rows[i] for i in range(n)])


def _substitute_back(rows: list[jax.Array]) -> jax.Array:
    """U^-1 times what stands on the right of U."""
    n = len(rows)
    X: dict[int, jax.Array] = {}
    for i in reversed(range(n)):
        x = rows[i][n - i :]
        for k, known in X.items():
            x = x - rows[i][k - i] * known
        X[i] = materialise(x / rows[i][0])
    return jnp.stack([X[i] for i in range(n)])


def _with_identity(A: jax.Array) -> jax.Array:
    n = A.shape[0]
    return jnp.concatenate([A, jnp.broadcast_to(jnp.eye(n, dtype=A.dtype)[..., None], A.shape)], axis=1)


# --- what the pivots tell


def _determinant(pivots: list[jax.Array], odd: jax.Array) -> jax.Array:
    delta = _signed(pivots[0], odd)
    for d in pivots[1:]:
        delta = delta * d
    out_of_range = (delta == 0) | ~jnp.isfinite(delta)

    def by_exponents(delta: jax.Array) -> jax.Array:
        sign = _signed(jnp.ones_like(delta), odd)
        return jnp.where(out_of_range, by_power_of_two(*product(jnp.stack(pivots, axis=-1), sign)), delta)

    # the pivots may leave the range of the dtype one after the other although the whole product does not
    return lax.cond(jnp.any(out_of_range), by_exponents, lambda delta: delta, delta)


def _sign_and_logarithm(pivots: list[jax.Array], odd: jax.Array) -> tuple[jax.Array, jax.Array]:
    sign, logarithm = _signed(jnp.sign(pivots[0]), odd), jnp.log(jnp.abs(pivots[0]))
    for d in pivots[1:]:
        sign, logarithm = sign * jnp.sign(d), logarithm + jnp.log(jnp.abs(d))
    return sign, logarithm


def _signed(x: jax.Array, odd: jax.Array) -> jax.Array:
    return jnp.where(odd, -x, x)


def _any_zero(pivots: list[jax.Array]) -> jax.Array:
    zero = pivots[0] == 0
    for d in pivots[1:]:
        zero = zero | (d == 0)
    # of a longer elimination every entry that is masked would compute the pivots anew
    return materialise(zero) if len(pivots) > 2 else zero


def _info(pivots: list[jax.Array]) -> jax.Array:
    """The number of the first zero pivot, or 0."""
    info = jnp.zeros(pivots[0].shape, jnp.int32)
    for i in reversed(range(len(pivots))):
        info = jnp.where(pivots[i] == 0, jnp.int32(i + 1), info)
    return info


def _adjoint(X: jax.Array) -> jax.Array:
    return jnp.conj(jnp.swapaxes(X, 0, 1))


def _in_parts(function: Callable[..., Any], A: jax.Array, *others: jax.Array) -> Any:
    """The function of a large batch in parts; of 1 x 1 and 2 x 2 matrices it is a few loops, and needs none."""
    return function(A, *others) if max(A.shape[:2]) <= 2 else in_parts(function, A, *others)


def _keep(A: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """What is one loop by itself is not cut; of a longer one, what it computes anew would cost more than memory."""
    return materialise if A.shape[0] > 2 else lambda x: x
