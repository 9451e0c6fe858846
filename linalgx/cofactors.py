"""Determinants, cofactors and inverses of few rows, by cofactors, and their derivatives.

Sources: Magnus and Neudecker (2019), "Matrix Differential Calculus", section 8.3; Giles (2008), "Collected matrix
derivative results for forward and reverse mode algorithmic differentiation", section 2.2.3.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from linalgx._core.batch_minor import batch_minor
from linalgx._core.loops import materialise
from linalgx._core.matrix import H
from linalgx._core.operation import Operation, SmallKernel, always
from linalgx._kernels import cofactor_expansion
from linalgx._kernels.cofactor_expansion import cofactor_matrix, in_front
from linalgx.products import product


def by_cofactors(name: str, function: Callable[..., Any]) -> Operation:
    """An operation on few rows: it takes so little time that leading axes stay in front."""
    small = functools.partial(function, each=batch_minor)
    return Operation(name, function, small=SmallKernel(small, always, in_front=function))


# --- Determinant of at most three rows: delta = sum_j A_0j C_0j, where C_ij are the cofactors

det_by_cofactors_p = by_cofactors("det_by_cofactors", cofactor_expansion.det)


# Rules.
#   forward   d delta = sum_ij C_ij dA_ij
#   reverse   A_bar = delta_bar conj(C)


def _det_by_cofactors_fwd(A):
    # kept: delta_bar is mostly made of delta, which each entry of A_bar would compute again
    return materialise(det_by_cofactors_p(A)), (A,)


def _det_by_cofactors_bwd(residuals, delta_bar):
    (A,) = residuals
    return (delta_bar[..., None, None] * jnp.conj(cofactor_matrix_p(A)),)


def _det_by_cofactors_jvp(residuals, dA):
    (A,) = residuals
    return jnp.sum(cofactor_matrix_p(A) * dA, axis=(-2, -1))


det_by_cofactors_p.defvjp(_det_by_cofactors_fwd, _det_by_cofactors_bwd)
det_by_cofactors_p.defjvp(
    _det_by_cofactors_jvp, source="Magnus and Neudecker (2019), Matrix Differential Calculus, section 8.3"
)


# --- The cofactors C of at most three rows

cofactor_matrix_p = by_cofactors("cofactor_matrix", lambda A, each=in_front: each(cofactor_matrix)(A))


# Rules. sum_ij G_ij D C(A)[E]_ij = D^2 det(A)[E, G] is symmetric in E and G, and C a polynomial:
#   forward   dC = D C(A)[dA]
#   reverse   A_bar = D C(conj(A))[C_bar]


def _cofactor_matrix_fwd(A):
    return cofactor_matrix_p(A), (A,)


def _cofactor_matrix_bwd(residuals, C_bar):
    (A,) = residuals
    return (_change_of_cofactors(jnp.conj(A), C_bar),)


def _cofactor_matrix_jvp(residuals, dA):
    (A,) = residuals
    return _change_of_cofactors(A, dA)


def _change_of_cofactors(A, E):
    """D C(A)[E]."""
    return jax.jvp(cofactor_matrix, (A,), (E,))[1]


cofactor_matrix_p.defvjp(_cofactor_matrix_fwd, _cofactor_matrix_bwd)
cofactor_matrix_p.defjvp(
    _cofactor_matrix_jvp, source="Magnus and Neudecker (2019), Matrix Differential Calculus, section 8.3"
)


# --- Inverse and info of one or two rows: X = A^-1

inverse_by_cofactors_p = by_cofactors("inverse_by_cofactors", cofactor_expansion.inv)


# Rules (Giles 2008).
#   forward   dX = -X dA X
#   reverse   A_bar = -X^H X_bar X^H


def _inverse_by_cofactors_fwd(A):
    X, info = inverse_by_cofactors_p(A)
    # kept: each entry of a product with it would compute it again
    X = materialise(X)
    return (X, info), (X,)


def _inverse_by_cofactors_bwd(residuals, cotangents):
    (X,) = residuals
    return (-product(H(X), product(cotangents[0], H(X))),)


def _inverse_by_cofactors_jvp(residuals, dA):
    (X,) = residuals
    return -product(X, product(dA, X)), None


inverse_by_cofactors_p.defvjp(_inverse_by_cofactors_fwd, _inverse_by_cofactors_bwd)
inverse_by_cofactors_p.defjvp(
    _inverse_by_cofactors_jvp, source="Giles (2008), Collected matrix derivative results, section 2.2.3"
)
