"""Powers of matrices; the matrix exponential, and its Fréchet derivatives of every order.

Sources: Bader, Blanes & Casas (2019), "Computing the matrix exponential with an optimized Taylor polynomial
approximation", Mathematics 7, 1174; Al-Mohy & Higham (2009), "Computing the Fréchet derivative of the matrix
exponential, with an application to condition number estimation", SIAM J. Matrix Anal. Appl. 30, 1639 (the rules);
Higham (2008), "Functions of Matrices", chapters 3 and 10; Knuth, "The Art of Computer Programming", volume 2, section
4.6.3 (powers). The algorithm of the exponential is in :mod:`linalgx._kernels.exponential`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import (
    array,
    inexact_array,
    integer,
    public,
    require_matrix,
    require_square,
    square_matrix,
)
from linalgx._core.matrix import H, identity
from linalgx._core.operation import Operation
from linalgx._kernels import exponential
from linalgx._kernels.select import small_kernel
from linalgx.linear_systems import reported_inverse
from linalgx.products import product


@public("n")
def matrix_power(a: ArrayLike, n: int) -> jax.Array:
    """Integer power of a square matrix; a negative one is a power of the inverse.

    Args:
        a: shape (..., k, k), any dtype.
        n: any integer. It is part of the compiled program: each n is compiled by itself.

    Returns:
        The power, shape (..., k, k), in the dtype of a, or, of integers and n < 0, in their promoted dtype. n = 0
        gives the identity, whatever a is.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers or n is not an integer.
        LinAlgError: inside :func:`raise_errors`, if n < 0 and a matrix is exactly singular.

    On failure:
        n < 0: NaN in each power of a matrix that is singular, and in no other.

    Derivatives:
        both modes, every order.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.matrix_power(jnp.array([[1, 1], [1, 0]]), 10)
        Array([[89, 55],
               [55, 34]], dtype=int32)

    Source:
        Knuth, The Art of Computer Programming, section 4.6.3.
    """
    exponent = integer("matrix_power", "n", n)
    A = array("matrix_power", a=a)
    if exponent < 0 or jnp.issubdtype(A.dtype, jnp.inexact):
        A = inexact_array("matrix_power", a=A)
    require_matrix("matrix_power", a=A)
    require_square("matrix_power", a=A)
    return _power(reported_inverse("matrix_power", A) if exponent < 0 else A, abs(exponent))


@public()
def matrix_exp(a: ArrayLike) -> jax.Array:
    """Matrix exponential: I + A + A^2 / 2! + A^3 / 3! + ...

    Args:
        a: shape (..., n, n), real or complex.

    Returns:
        exp(A), shape (..., n, n), in the promoted dtype of a.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.

    On failure:
        a matrix with NaN or an infinity gives NaN, and so may one whose exponential overflows; no other member of
        the batch is touched.

    Derivatives:
        both modes, every order, for every matrix, defective or with repeated eigenvalues.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.matrix_exp(jnp.array([[0.0, 2.0], [0.0, 0.0]]))
        Array([[1., 2.],
               [0., 1.]], dtype=float32)

    Source:
        Bader, Blanes & Casas (2019); derivatives: Al-Mohy & Higham (2009).
    """
    return matrix_exp_p(square_matrix("matrix_exp", a=a))


# The operation is D_k(A; E_1, ..., E_k), the k-th Fréchet derivative of exp at A in the directions E_i, k >= 0:
# exp(A) without a direction, L(A, E) with one.


def _matrix_exp(A: jax.Array, *directions: jax.Array) -> jax.Array:
    return exponential.matrix_exp(exponential.LEADING, A, *directions)


matrix_exp_p = Operation("matrix_exp", _matrix_exp, linear_in=({1}, {2}, {3}), small=small_kernel("matrix_exp"))


# Rules. D_k is symmetric and linear in its directions, and its derivative in A along E is D_(k+1) with E as one more
# direction. As a power series it is a sum of words A^i E_1 A^j E_2 A^l ..., and tr(G^H A^i E A^j ...) =
# tr(E A^j ... G^H A^i): the adjoint with respect to any letter is a sum of the same words in the adjoint letters,
# with G in the place of that letter:
#   forward   D_(k+1)(A; E_1, ..., E_k, dA) + sum_i D_k(A; ..., dE_i, ...)
#   reverse   A_bar = D_(k+1)(A^H; E_1^H, ..., E_k^H, G),   E_i_bar = D_k(A^H; ..., G, ...)


def _matrix_exp_fwd(A, *directions):
    return matrix_exp_p(A, *directions), (A, *directions)


def _matrix_exp_bwd(residuals, G):
    A, *directions = map(H, residuals)
    A_bar = matrix_exp_p(A, *directions, G)
    return A_bar, *(matrix_exp_p(A, *_replaced(directions, i, G)) for i in range(len(directions)))


def _matrix_exp_jvp(residuals, dA, *moved):
    A, *directions = residuals
    terms = [] if dA is None else [matrix_exp_p(A, *directions, dA)]
    terms += [matrix_exp_p(A, *_replaced(directions, i, dE)) for i, dE in enumerate(moved) if dE is not None]
    return sum(terms[1:], terms[0])


def _replaced(directions: list[jax.Array], i: int, E: jax.Array) -> list[jax.Array]:
    return [*directions[:i], E, *directions[i + 1 :]]


matrix_exp_p.defvjp(_matrix_exp_fwd, _matrix_exp_bwd)
matrix_exp_p.defjvp(_matrix_exp_jvp, source="Al-Mohy & Higham (2009), SIAM J. Matrix Anal. Appl. 30, equation 1.5")


def _power(A: jax.Array, n: int) -> jax.Array:
    """A^n as the product of those squares A, A^2, A^4, ... that the binary digits of n name."""
    if n == 0:
        return identity(A)
    factors = []
    while n:
        if n % 2:
            factors.append(A)
        n //= 2
        A = product(A, A) if n else A
    return functools.reduce(product, factors)
