"""The QR decomposition A = Q R, in all its forms, and their derivatives.

Sources: Walter and Lehmann (2012), "Algorithmic differentiation of linear algebra functions with application in
optimum experimental design", arXiv:1001.1654 (m >= n); Roberts and Roberts (2020), "QR and LQ decomposition matrix
backpropagation algorithms for square, wide, and deep matrices", arXiv:2009.10071 (m < n); Ballard et al. (2014),
"Reconstructing Householder vectors from tall-skinny QR" (the reflections as functions of Q).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import matrix, public, require_option
from linalgx._core.matrix import (
    H,
    T,
    diagonal,
    from_diagonal,
    lower_half,
    strictly_lower,
    strictly_upper,
    upper_half,
)
from linalgx._core.operation import Operation
from linalgx._core.results import GeqrfResult, QRResult
from linalgx._kernels import lapack
from linalgx._kernels.select import small_kernel
from linalgx.decompositions.householder import reflectors
from linalgx.triangular_systems import solve_triangular_p


@public("mode")
def qr(a: ArrayLike, mode: str = "reduced") -> Any:
    """QR decomposition A = Q R: orthonormal columns times an upper triangle.

    Args:
        a: shape (..., m, n), real or complex; k = min(m, n).
        mode: "reduced": Q with k columns. "complete": Q square. "r": R alone. "raw": the Householder vectors and
            factors, as NumPy gives them.

    Returns:
        ``Q``, shape (..., m, k), and ``R``, shape (..., k, n); for "complete" (..., m, m) and (..., m, n). For "r" R
        alone, shape (..., k, n). For "raw" the pair (h, tau) of shapes (..., n, m) and (..., k): the transpose of
        what :func:`geqrf` returns. All in the promoted dtype of a. The diagonal of R is real, of either sign.

    Raises:
        ValueError: if a is not a matrix, or mode is none of the four.
        TypeError: if a is not an array of numbers.

    On failure:
        NaN in the input gives NaN in that member of the batch.

    Derivatives:
        both modes, every order, in every mode of the function and for every shape, where the first k columns of a
        are linearly independent. For m <= n the k-th may also depend on the others if a is real; and where R has a
        zero on its diagonal, functions of the product Q R keep their right derivative. For m > n they become NaN
        there. The columns of Q that "complete" adds are differentiated as LAPACK chooses them. Where this choice is
        discontinuous, that is, where a column of a is reduced to zeros below the diagonal before its reflection (a
        triangular a, for one), their derivative is right for functions of the space that they span, like the
        projector Q2 Q2^H. For "raw", see :func:`geqrf`.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.qr(jnp.array([[0.0, 3.0], [2.0, 1.0]]), mode="r")
        Array([[-2., -1.],
               [ 0., -3.]], dtype=float32)

    Source:
        Walter and Lehmann (2012), arXiv:1001.1654; Roberts and Roberts (2020), arXiv:2009.10071.
    """
    require_option("qr", "mode", mode, ("reduced", "complete", "r", "raw"))
    A = matrix("qr", a=a)
    m, n = A.shape[-2:]
    if mode == "raw":
        h, tau = _packed(A)
        return T(h), tau
    if mode == "complete" and m > n:
        Q, R, _, _ = householder_qr_p(A, full=True)
        return QRResult(Q, _grow(R, m, n))
    Q, R = qr_p(A)
    return R if mode == "r" else QRResult(Q, R)


@public()
def geqrf(a: ArrayLike) -> GeqrfResult:
    """QR decomposition as LAPACK packs it: R, and the Householder reflections whose product is Q.

    Args:
        a: shape (..., m, n), real or complex; k = min(m, n).

    Returns:
        ``a``, shape (..., m, n): R on and above the diagonal, below it the vectors of the reflections, in the layout
        of :func:`householder_product` and :func:`ormqr`; and ``tau``, shape (..., k).

    Raises:
        ValueError: if a is not a matrix.
        TypeError: if a is not an array of numbers.

    On failure:
        NaN in the input gives NaN in that member of the batch.

    Derivatives:
        both modes, every order, where the first k columns of a are linearly independent. If tau_i = 0, the i-th
        column was zero below the diagonal before its reflection; there LAPACK's tau_i and the sign of row i of R
        jump. The derivative of the vectors is exact there, that of R is the one with the sign kept, and tau_i has
        none in the directions that fill the column.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.geqrf(jnp.array([[0.0, 3.0], [2.0, 1.0]])).tau
        Array([1., 0.], dtype=float32)

    Source:
        Ballard et al. (2014), Reconstructing Householder vectors from tall-skinny QR.
    """
    return GeqrfResult(*_packed(matrix("geqrf", a=a)))


def _packed(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    m, n = A.shape[-2:]
    _, R, V, tau = householder_qr_p(A, full=False)
    return _grow(R, m, n) + _grow(strictly_lower(V), m, n), tau


def _grow(X: jax.Array, m: int, n: int) -> jax.Array:
    """X with zeros appended to the shape (..., m, n)."""
    return jnp.pad(X, [(0, 0)] * (X.ndim - 2) + [(0, m - X.shape[-2]), (0, n - X.shape[-1])])


# --- Reduced: Q of shape (m, k), R of shape (k, n)


def _qr(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    h, R, tau = lapack.geqrf(A)
    return lapack.householder_product(h[..., :, : tau.shape[-1]], tau), R


qr_p = Operation("qr", _qr, small=small_kernel("qr"))


# Rules. Let X = Q^H dA_1 R_1^-1, the index 1 for the first k columns. Q^H dQ = Omega is skew and dR_1 R_1^-1 = Psi is
# upper triangular with a real diagonal; both come from X = Omega + Psi, with Phi and Psi' the lower and upper half:
#   Omega = Phi(X) - Phi(X)^H,   Psi = Psi'(X + X^H)
# For m > n, with M = R_bar R^H - Q^H Q_bar,
#   forward   dQ = dA R^-1 - Q Psi,   dR = Psi R
#   reverse   A_bar = (Q_bar + Q (Psi'(M) + Psi'(M)^H)) R^-H
# For m <= n, where Q is square, with N = Q^H Q_bar - R_bar R^H,
#   forward   dQ = Q Omega,   dR = Q^H dA - Omega R
#   reverse   A_bar = Q (R_bar + [Phi(N - N^H) R_1^-H, 0])
# The latter gives d(QR) = dA for whatever skew Omega, so that a zero on the diagonal of R_1 does no harm there.


def _qr_fwd(A):
    Q, R = qr_p(A)
    return (Q, R), (Q, R)


def _qr_jvp(residuals, dA):
    Q, R = residuals
    if Q.shape[-2] > Q.shape[-1]:
        Y = _solve_right(R, dA)
        X = H(Q) @ Y
        Psi = upper_half(X + H(X))
        return Y - Q @ Psi, Psi @ R
    C = H(Q) @ dA
    L = lower_half(_solve_right(_regular(R), _leading(C)))
    Omega = L - H(L)
    return Q @ Omega, _triangle(R, C - Omega @ R)


def _qr_bwd(residuals, cotangents):
    Q, R = residuals
    Q_bar, R_bar = cotangents
    if Q.shape[-2] > Q.shape[-1]:
        U = upper_half(_sum(None if R_bar is None else R_bar @ H(R), None if Q_bar is None else -(H(Q) @ Q_bar)))
        return (_solve_right(R, _sum(Q @ (U + H(U)), Q_bar), adjoint=True),)
    R_bar = None if R_bar is None else _triangle(R, R_bar)
    N = _sum(None if Q_bar is None else H(Q) @ Q_bar, None if R_bar is None else -(R_bar @ H(R)))
    C_bar = _solve_right(_regular(R), lower_half(N - H(N)), adjoint=True)
    return (Q @ _sum(_grow(C_bar, *R.shape[-2:]), R_bar),)


qr_p.defvjp(_qr_fwd, _qr_bwd)
qr_p.defjvp(
    _qr_jvp,
    source="Walter and Lehmann (2012), arXiv:1001.1654; for m < n Roberts and Roberts (2020), arXiv:2009.10071",
)


def _leading(R: jax.Array) -> jax.Array:
    return R[..., :, : R.shape[-2]]


def _regular(R: jax.Array) -> jax.Array:
    """R_1, with ones for zeros on its diagonal."""
    R1 = _leading(R)
    return R1 + from_diagonal((diagonal(R1) == 0).astype(R.dtype))


def _triangle(R: jax.Array, dR: jax.Array) -> jax.Array:
    """The part of dR that moves R: its upper triangle, and the columns with a zero on the diagonal of R."""
    whole = _grow((diagonal(R) == 0)[..., None, :], 1, R.shape[-1])
    return jnp.where(whole, dR, jnp.triu(dR))


def _sum(x: jax.Array | None, y: jax.Array | None) -> Any:
    """X + y, where None stands for zero; not both are None."""
    if x is None:
        return y
    return x if y is None else x + y


# --- With its reflections: Q reduced or (full) square, R, V, tau


def _householder_qr(A: jax.Array, *, full: bool) -> tuple[jax.Array, ...]:
    h, R, tau = lapack.geqrf(A)
    m, k = A.shape[-2], tau.shape[-1]
    packed = h[..., :, :k]
    Q = lapack.householder_product(_grow(packed, m, m) if full else packed, tau)
    return Q, R, reflectors(h, k), tau


householder_qr_p = Operation("householder_qr", _householder_qr, small=small_kernel("householder_qr"))


# Rules. What is added to the reduced decomposition, Q = [Q_1, Q_2], is a function of Q_1: the rules of V, tau and Q_2
# are linear maps of dQ_1, in front of the rules of Q_1 and R.


def _householder_qr_fwd(A, *, full):
    out = householder_qr_p(A, full=full)
    return out, out


def _householder_qr_jvp(residuals, dA, *, full):
    Q, R, V, tau = residuals
    Q1, _ = _split(Q, tau)
    dQ1, dR = _qr_jvp((Q1, R), dA)
    dV, dtau = _reflectors_jvp(V, tau, dQ1)
    dQ = jnp.concatenate([dQ1, _complement_jvp(Q, V, dQ1)], axis=-1) if full else dQ1
    return dQ, dR, dV, dtau


def _householder_qr_bwd(residuals, cotangents, *, full):
    Q, R, V, tau = residuals
    Q_bar, R_bar, V_bar, tau_bar = cotangents
    Q1, _ = _split(Q, tau)
    Q1_bar = None
    if Q_bar is not None:
        Q1_bar, Q2_bar = _split(Q_bar, tau)
        Q1_bar = _sum(Q1_bar, _complement_bwd(Q, V, Q2_bar) if full else None)
    if V_bar is not None or tau_bar is not None:
        Q1_bar = _sum(_reflectors_bwd(V, tau, V_bar, tau_bar), Q1_bar)
    return _qr_bwd((Q1, R), (Q1_bar, R_bar))


householder_qr_p.defvjp(_householder_qr_fwd, _householder_qr_bwd)
householder_qr_p.defjvp(
    _householder_qr_jvp, source="Ballard et al. (2014), Reconstructing Householder vectors from tall-skinny QR"
)


def _split(Q: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    k = tau.shape[-1]
    return Q[..., :, :k], Q[..., :, k:]


# V and tau from Q_1. The compact form Q = I - V T V^H of Q = H_1 ... H_k says that E - Q_1 = V U with U = T V_1^H: an
# LU decomposition without pivoting, V unit lower trapezoidal, and tau on the diagonal of U (Ballard et al. 2014). So
# with Y = -dQ_1 U^-1 = dV + V dU U^-1, of which U^-1 = V_1^-H T^-1 and T^-1 = diag(1 / tau) + striu(V^H V),
#   forward   K = triu(V_1^-1 Y_1),   dV = Y - V K,   dtau = diag(K) tau
#   reverse   K_bar = triu(diag(conj(tau) tau_bar) - V^H V_bar),   Y_bar = V_bar + [V_1^-H K_bar; 0],
#             Q_1_bar = -Y_bar T^-H V_1^-1
# Re tau is between 1 and 2 but for tau = 0. That is LAPACK's choice for a column with nothing to reflect; next to it
# tau is near 2 and the column of Q_1 has the other sign. Like V, which is smooth there, the rule takes that side.


def _reflectors_jvp(V, tau, dQ1):
    sign, tau, inverse = _other_side(V, tau)
    Y = _solve_unit(V, -dQ1 * sign[..., None, :], left=False, adjoint=True) @ inverse
    K = jnp.triu(_solve_unit(V, Y[..., : tau.shape[-1], :], left=True))
    return strictly_lower(Y - V @ K), sign * diagonal(K) * tau


def _reflectors_bwd(V, tau, V_bar, tau_bar):
    sign, tau, inverse = _other_side(V, tau)
    V_bar = None if V_bar is None else strictly_lower(V_bar)
    K_bar = _sum(
        None if tau_bar is None else from_diagonal(jnp.conj(tau) * sign * tau_bar),
        None if V_bar is None else -jnp.triu(H(V) @ V_bar),
    )
    Y_bar = _sum(_grow(_solve_unit(V, K_bar, left=True, adjoint=True), *V.shape[-2:]), V_bar)
    return -_solve_unit(V, Y_bar @ H(inverse), left=False) * sign[..., None, :]


def _other_side(V: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The signs of the columns, tau, and T^-1 next to a tau = 0."""
    sign = jnp.where(tau == 0, -1, 1).astype(tau.dtype)
    tau = jnp.where(tau == 0, 2, tau)
    return sign, tau, from_diagonal(1 / tau) + strictly_upper(H(V) @ V)


# Q_2 from Q_1. The compact form says Q_2 = E_2 - (E_1 - Q_1) Z^H with Z = V_2 V_1^-1. Its differential, with Q^H dQ_1
# = [Omega; X] in the first columns, is dQ_2 = -Q_1 X^H + Q_2 (X Z^H - Z X^H - Z Omega Z^H), in which no tau divides.
# With K = V_1^-1 Omega V_1^-H and E = X V_1^-H - V_2 K / 2,
#   forward   dQ_2 = Q_2 E V_2^H - Q_2 V_2 E^H - Q_1 X^H
#   reverse   E_bar = Q_2^H Q_2_bar V_2 - Q_2_bar^H Q_2 V_2,   K_bar = -V_2^H E_bar / 2,
#             Q_1_bar = Q [V_1^-H K_bar; E_bar] V_1^-1 - Q_2 Q_2_bar^H Q_1
# E V_2^H - V_2 E^H is skew whatever V is: where V is not a function of Q_1 (at a tau = 0) Q_2 still moves as a basis
# of the complement of Q_1, in every order.


def _complement_jvp(Q, V, dQ1):
    k = dQ1.shape[-1]
    Q1, Q2, V2 = Q[..., :, :k], Q[..., :, k:], V[..., k:, :]
    W = H(Q) @ dQ1
    F = _solve_unit(V, W, left=False, adjoint=True)
    E = F[..., k:, :] - 0.5 * V2 @ _solve_unit(V, F[..., :k, :], left=True)
    moved = Q2 @ jnp.concatenate([E, -V2], axis=-1)
    return jnp.concatenate([moved, -Q1], axis=-1) @ H(jnp.concatenate([V2, E, W[..., k:, :]], axis=-1))


def _complement_bwd(Q, V, Q2_bar):
    k = V.shape[-1]
    Q1, Q2, V2 = Q[..., :, :k], Q[..., :, k:], V[..., k:, :]
    along = H(Q2_bar) @ jnp.concatenate([Q2 @ V2, Q1], axis=-1)
    E_bar = H(Q2) @ (Q2_bar @ V2) - along[..., :k]
    F1_bar = _solve_unit(V, -0.5 * H(V2) @ E_bar, left=True, adjoint=True)
    W_bar = _solve_unit(V, jnp.concatenate([F1_bar, E_bar], axis=-2), left=False)
    return Q @ W_bar.at[..., k:, :].add(-along[..., k:])


def _solve_right(R: jax.Array, X: jax.Array, adjoint: bool = False) -> jax.Array:
    """X R^-1, or X R^-H."""
    return solve_triangular_p(R, X, lower=False, left=False, unit_diagonal=False, adjoint=adjoint)


def _solve_unit(V: jax.Array, X: jax.Array, *, left: bool, adjoint: bool = False) -> jax.Array:
    """V_1^-1 X or X V_1^-1, or with V_1^-H."""
    V1 = V[..., : V.shape[-1], :]
    return solve_triangular_p(V1, X, lower=True, left=left, unit_diagonal=True, adjoint=adjoint)
