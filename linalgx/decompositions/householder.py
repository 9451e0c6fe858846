"""Products of Householder reflections, Q = H_1 ... H_k with H_i = I - tau_i v_i v_i^H, and their derivatives.

Sources: Schreiber and Van Loan (1989), "A storage-efficient WY representation for products of Householder
transformations", SIAM J. Sci. Stat. Comput. 10 (Q = I - V T V^H); Joffrain et al. (2006), "Accumulating Householder
transformations, revisited", ACM TOMS 32 (T^-1 is explicit).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import broadcast_leading_axes, inexact_arrays, public, require_matrix
from linalgx._core.matrix import H, from_diagonal, identity, strictly_lower, strictly_upper
from linalgx._core.operation import Operation
from linalgx._kernels import lapack
from linalgx._kernels.select import small_products
from linalgx.triangular_systems import solve_triangular_p


@public()
def householder_product(a: ArrayLike, tau: ArrayLike) -> jax.Array:
    """First columns of a product of Householder reflections, as :func:`geqrf` stores them.

    Reflection i is I - tau_i v_i v_i^H, where v_i is zero above row i, one in row i, and column i of a below it.

    Args:
        a: shape (..., m, n) with m >= n, real or complex; only what is below the diagonal of its first k columns is
            read.
        tau: shape (..., k) with k <= n. The leading axes of a and tau broadcast.

    Returns:
        The first n columns of the product, shape (..., m, n), in the promoted dtype of a and tau. Its columns are
        orthonormal if every reflection is unitary; with k = 0 they are those of the identity.

    Raises:
        ValueError: if m < n, if k > n, or if the leading axes do not broadcast.
        TypeError: if an argument is not an array of numbers.

    Derivatives:
        both modes, every order, for any a and tau: also where a reflection is singular (``tau_i = 1 / |v_i|^2``) or not
        unitary, or the identity (tau_i = 0).

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.householder_product(jnp.array([[5.0], [1.0]]), jnp.array([1.0]))
        Array([[ 0.],
               [-1.]], dtype=float32)

    Source:
        Schreiber and Van Loan (1989), A storage-efficient WY representation for products of Householder
        transformations.
    """
    A, taus = inexact_arrays("householder_product", a=a, tau=tau)
    _require_reflections("householder_product", A, taus)
    if A.shape[-2] < A.shape[-1]:
        raise ValueError(
            f"linalgx.householder_product: a must have at least as many rows as columns, but its shape is {A.shape}"
        )
    A, taus = broadcast_leading_axes("householder_product", (2, 1), a=A, tau=taus)
    return householder_product_p(A, taus)


@public("left", "transpose")
def ormqr(a: ArrayLike, tau: ArrayLike, c: ArrayLike, left: bool = True, transpose: bool = False) -> jax.Array:
    """Product of a matrix with the square Q of a QR decomposition, without forming Q.

    Args:
        a: shape (..., m, n), real or complex: the Householder vectors, as in :func:`householder_product`.
        tau: shape (..., k) with k <= min(m, n).
        c: shape (..., m, p), or (..., p, m) for ``left=False``. The leading axes of a, tau and c broadcast.
        left: Q c; if False, c Q.
        transpose: use the adjoint Q^H (for complex matrices, too) in place of Q.

    Returns:
        The product, of the shape of c (with the leading axes broadcast), in the promoted dtype of the arguments.

    Raises:
        ValueError: if k > min(m, n), if c does not fit a, or if the leading axes do not broadcast.
        TypeError: if an argument is not an array of numbers.

    Derivatives:
        both modes, every order, with respect to a, tau and c, for any a and tau.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.ormqr(jnp.array([[5.0], [1.0]]), jnp.array([1.0]), jnp.array([[1.0], [2.0]]))
        Array([[-2.],
               [-1.]], dtype=float32)

    Source:
        Schreiber and Van Loan (1989), A storage-efficient WY representation for products of Householder
        transformations.
    """
    A, taus, C = inexact_arrays("ormqr", a=a, tau=tau, c=c)
    _require_reflections("ormqr", A, taus)
    require_matrix("ormqr", c=C)
    m, side = A.shape[-2], -2 if left else -1
    if C.shape[side] != m:
        have = f"{C.shape[side]} {'rows' if left else 'columns'}"
        raise ValueError(f"linalgx.ormqr: c must have {m}, the rows of a, but it has {have}")
    A, taus, C = broadcast_leading_axes("ormqr", (2, 1, 2), a=A, tau=taus, c=C)
    return ormqr_p(A, taus, C, left=bool(left), adjoint=bool(transpose))


def _require_reflections(function: str, a: jax.Array, tau: jax.Array) -> None:
    """Raise unless ``a`` is a matrix with room for the vectors of the reflections ``tau``."""
    require_matrix(function, a=a)
    if tau.ndim < 1:
        raise ValueError(f"linalgx.{function}: tau must have at least one axis, but its shape is ()")
    if tau.shape[-1] > min(a.shape[-2:]):
        raise ValueError(
            f"linalgx.{function}: tau must have at most {min(a.shape[-2:])} elements for a of shape {a.shape}, "
            f"but its shape is {tau.shape}"
        )


def reflectors(a: jax.Array, k: int) -> jax.Array:
    """V, whose columns are the vectors of the first ``k`` reflections: unit lower trapezoidal, from below ``a``."""
    return strictly_lower(a[..., :, :k]) + jnp.eye(a.shape[-2], k, dtype=a.dtype)


# --- The compact form Q = I - V T V^H
#
# T is upper triangular with tau on its diagonal. With D = diag(tau) and S the strict upper triangle of V^H V,
# T^-1 = D^-1 + S (Joffrain et al. 2006). Without the division, which fails at tau_i = 0,
#   (I + D S) T = D,   a unit triangular system.
# Its derivative, by (I + D S)^-1 = I - T S and (I + S D)^-1 = I - S T, takes no division and no solve:
#   forward   dT = (I - T S) dD (I - S T) - T dS T,   dS = striu(dV^H V + V^H dV)
#   reverse   tau_bar = diag((I - T S)^H T_bar (I - S T)^H),   S_bar = -striu(T^H T_bar T^H),
#             V_bar = V (S_bar + S_bar^H)
# No reflection is inverted, so that it may be singular.


def _compact(V: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """S and T."""
    S = strictly_upper(H(V) @ V)
    D = from_diagonal(tau)
    T = solve_triangular_p(tau[..., :, None] * S, D, lower=False, left=True, unit_diagonal=True, adjoint=False)
    return S, T


def _compact_jvp(V: jax.Array, S: jax.Array, T: jax.Array, dV: jax.Array | None, dtau: jax.Array | None) -> jax.Array:
    """dT; at least one of the tangents lives."""
    terms = []
    if dtau is not None:
        terms.append((identity(S) - T @ S) @ (dtau[..., :, None] * (identity(S) - S @ T)))
    if dV is not None:
        M = H(V) @ dV
        terms.append(-(T @ strictly_upper(M + H(M)) @ T))
    return sum(terms[1:], terms[0])


def _compact_bwd(V: jax.Array, S: jax.Array, T: jax.Array, T_bar: jax.Array) -> tuple[jax.Array, jax.Array]:
    """V_bar and tau_bar."""
    left = H(identity(S) - T @ S) @ T_bar
    tau_bar = jnp.sum(left * jnp.conj(identity(S) - S @ T), axis=-1)
    S_bar = -strictly_upper(H(T) @ T_bar @ H(T))
    return V @ (S_bar + H(S_bar)), tau_bar


def _fill(V_bar: jax.Array, columns: int) -> jax.Array:
    """The cotangent of the matrix with ``columns`` columns that holds V below its diagonal."""
    no_padding = [(0, 0)] * (V_bar.ndim - 1)
    return jnp.pad(strictly_lower(V_bar), [*no_padding, (0, columns - V_bar.shape[-1])])


# --- The first n columns of Q

householder_product_p = Operation(
    "householder_product", lapack.householder_product, small=small_products(lapack.householder_product)
)


# Rules. With V_n the first n rows of V, Q = E - V T V_n^H:
#   forward   dQ = -dV T V_n^H - V (dT V_n^H + T dV_n^H)
#   reverse   V_bar = -Q_bar V_n T^H, its first n rows less Q_bar^H V T,   T_bar = -V^H Q_bar V_n


def _householder_product_fwd(a, tau):
    return householder_product_p(a, tau), (a, *_compact(reflectors(a, tau.shape[-1]), tau))


def _householder_product_jvp(residuals, da, dtau):
    a, S, T = residuals
    n, k = a.shape[-1], T.shape[-1]
    V = reflectors(a, k)
    Vn = V[..., :n, :]
    dV = None if da is None else strictly_lower(da[..., :, :k])
    inner = _compact_jvp(V, S, T, dV, dtau) @ H(Vn)
    if dV is None:
        return -(V @ inner)
    return -(dV @ (T @ H(Vn))) - V @ (inner + T @ H(dV[..., :n, :]))


def _householder_product_bwd(residuals, Q_bar):
    a, S, T = residuals
    n, k = a.shape[-1], T.shape[-1]
    V = reflectors(a, k)
    Vn = V[..., :n, :]
    Y = H(Q_bar) @ V
    V_bar, tau_bar = _compact_bwd(V, S, T, -(H(Y) @ Vn))
    V_bar = (V_bar - Q_bar @ (Vn @ H(T))).at[..., :n, :].add(-(Y @ T))
    return _fill(V_bar, n), tau_bar


householder_product_p.defvjp(_householder_product_fwd, _householder_product_bwd)
householder_product_p.defjvp(
    _householder_product_jvp, source="Schreiber and Van Loan (1989), the compact form Q = I - V T V^H, differentiated"
)


# --- Q C, Q^H C, C Q or C Q^H with the square Q

ormqr_p = Operation("ormqr", lapack.ormqr, linear_in=({2},), small=small_products(lapack.ormqr))


# Rules, for X = C - V T (V^H C); Q^H has T^H for T, and C Q = (Q^H C^H)^H. With Y = V^H C and Z = V^H X_bar,
#   forward   dX = dC - dV T Y - V (dT Y + T (dV^H C + V^H dC))
#   reverse   C_bar = X_bar - V T^H Z,   V_bar = -X_bar (T Y)^H - C (T^H Z)^H,   T_bar = -Z Y^H


def _ormqr_fwd(a, tau, C, *, left, adjoint):
    return ormqr_p(a, tau, C, left=left, adjoint=adjoint), (a, *_compact(reflectors(a, tau.shape[-1]), tau), C)


def _ormqr_jvp(residuals, da, dtau, dC, *, left, adjoint):
    a, S, T, C = residuals
    if not left:
        turned = (a, S, T, H(C))
        return H(_ormqr_jvp(turned, da, dtau, None if dC is None else H(dC), left=True, adjoint=not adjoint))
    V = reflectors(a, T.shape[-1])
    T_used = H(T) if adjoint else T
    if da is None and dtau is None:
        return dC - V @ (T_used @ (H(V) @ dC))
    dV = None if da is None else strictly_lower(da[..., :, : T.shape[-1]])
    dT = _compact_jvp(V, S, T, dV, dtau)
    Y = H(V) @ C
    inner = (H(dT) if adjoint else dT) @ Y
    moved = [H(x) @ y for x, y in ((dV, C), (V, dC)) if x is not None and y is not None]
    if moved:
        inner = inner + T_used @ sum(moved[1:], moved[0])
    dX = -(V @ inner)
    if dV is not None:
        dX = dX - dV @ (T_used @ Y)
    return dX if dC is None else dC + dX


def _ormqr_bwd(residuals, X_bar, *, left, adjoint):
    a, S, T, C = residuals
    if not left:
        a_bar, tau_bar, C_bar = _ormqr_bwd((a, S, T, H(C)), H(X_bar), left=True, adjoint=not adjoint)
        return a_bar, tau_bar, H(C_bar)
    V = reflectors(a, T.shape[-1])
    T_used = H(T) if adjoint else T
    Y, Z = H(V) @ C, H(V) @ X_bar
    W = H(T_used) @ Z
    T_bar = -(Z @ H(Y))
    V_bar, tau_bar = _compact_bwd(V, S, T, H(T_bar) if adjoint else T_bar)
    V_bar = V_bar - X_bar @ H(T_used @ Y) - C @ H(W)
    return _fill(V_bar, a.shape[-1]), tau_bar, X_bar - V @ W


ormqr_p.defvjp(_ormqr_fwd, _ormqr_bwd)
ormqr_p.defjvp(_ormqr_jvp, source="Schreiber and Van Loan (1989), the compact form Q = I - V T V^H, differentiated")
