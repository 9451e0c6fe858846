"""Determinants, their logarithms, and derivatives that are right at every rank.

det is a polynomial, so it has derivatives everywhere; what divides by a pivot or by det itself does not find them at
singular matrices. The derivatives here go through the adjugate, adj(A) = det(A) A^-1, a polynomial as well.

Sources: Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", section 2.2.4; Magnus and Neudecker (2019), "Matrix Differential Calculus", sections 8.3 and 8.6
(the adjugate).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from linalgx._core.arguments import public, require_option, square_matrix
from linalgx._core.batch_minor import extent
from linalgx._core.errors import nan_where, report
from linalgx._core.matrix import H, trace_of_product
from linalgx._core.operation import Operation
from linalgx._core.results import SlogdetResult
from linalgx._kernels import adjugate, cofactor_expansion, factors, lapack
from linalgx._kernels.select import small_kernel
from linalgx.cofactors import by_cofactors, det_by_cofactors_p, inverse_by_cofactors_p


@public()
def det(a: ArrayLike) -> jax.Array:
    """Determinant of a square matrix.

    Args:
        a: shape (..., n, n), real or complex.

    Returns:
        The determinant, shape (...), in the promoted dtype of a; 1 for n = 0. It is infinite or zero only if the
        determinant itself is out of the range of the dtype, or the rounding error of products that are:
        :func:`slogdet` has no such limit.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.

    On failure:
        NaN where a holds NaN.

    Derivatives:
        both modes. The gradient and the Hessian are right at every rank, the zero matrix and repeated singular
        values included; for n <= 3 so are all higher ones. For n >= 4 the third and higher derivatives are right
        where the condition number, with rows and columns scaled in the best way, is below 1 / sqrt(eps) and the
        determinant is well inside the range, and NaN elsewhere.

    Example:
        >>> import jax, jax.numpy as jnp, linalgx
        >>> linalgx.det(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
        Array(-2., dtype=float32)
        >>> jax.grad(linalgx.det)(jnp.diag(jnp.array([0.0, 1.0, 2.0, 3.0])))[0, 0]
        Array(6., dtype=float32)

    Source:
        Giles (2008), section 2.2.4; Magnus and Neudecker (2019), section 8.6.
    """
    A = square_matrix("det", a=a)
    return det_p(A) if extent(A.shape[-1]) > 3 else det_by_cofactors_p(A)


@public("method")
def slogdet(a: ArrayLike, *, method: str | None = None) -> SlogdetResult:
    """Sign and logarithm of the absolute value of the determinant.

    Args:
        a: shape (..., n, n), real or complex.
        method: None, "lu" or "qr", as :func:`jax.numpy.linalg.slogdet` has it: all factor a by elimination.

    Returns:
        ``sign``, shape (...), in the promoted dtype of a: 1, -1 or, for complex a, a number on the unit circle; and
        ``logabsdet``, real: det(a) = sign * exp(logabsdet). A singular matrix has sign 0 and logabsdet -inf.

    Raises:
        ValueError: if the last two axes of a differ, or method is another one.
        TypeError: if a is not an array of numbers.

    On failure:
        NaN where a holds NaN.

    Derivatives:
        both modes, every order, at nonsingular matrices: of logabsdet always, of sign for complex a (for real a it
        is constant). NaN at exactly singular matrices, where they do not exist.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.slogdet(jnp.array([[0.0, 1.0], [1.0, 0.0]]))
        SlogdetResult(
            sign=Array(-1., dtype=float32),
            logabsdet=Array(0., dtype=float32)
        )

    Source:
        Giles (2008), section 2.2.4.
    """
    A = square_matrix("slogdet", a=a)
    require_option("slogdet", "method", method, (None, "lu", "qr"))
    return SlogdetResult(*_slogdet(A))


@public()
def logdet(a: ArrayLike) -> jax.Array:
    """Logarithm of the determinant.

    Args:
        a: shape (..., n, n), real or complex.

    Returns:
        The logarithm, shape (...), in the promoted dtype of a; for complex a the principal one.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if a determinant of real a is negative.

    On failure:
        NaN where the determinant of real a is negative or a holds NaN, -inf where it is zero.

    Derivatives:
        both modes, every order, at nonsingular matrices; NaN where the value is NaN or infinite.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.logdet(jnp.eye(3))
        Array(0., dtype=float32)

    Source:
        Giles (2008), section 2.2.4.
    """
    sign, logabsdet = _slogdet(square_matrix("logdet", a=a))
    if jnp.iscomplexobj(sign):
        return jnp.log(sign) + logabsdet.astype(sign.dtype)
    report("logdet", "the determinant is negative", lambda sign: (sign < 0).astype(jnp.int32), sign)
    return logabsdet * jnp.where(sign < 0, jnp.nan, jnp.ones_like(sign))


# --- Determinant: delta = det A

det_p = Operation("det", lambda A: factors.det(*lapack.lu_factor(A)), small=small_kernel("det"))


# Rules (Jacobi's formula).
#   forward   d delta = tr(adj(A) dA)
#   reverse   A_bar = delta_bar adj(A)^H


def _det_fwd(A):
    delta, adj = det_and_adjugate_p(A)
    return delta, (adj,)


def _det_bwd(residuals, delta_bar):
    (adj,) = residuals
    return (delta_bar[..., None, None] * H(adj),)


def _det_jvp(residuals, dA):
    (adj,) = residuals
    return trace_of_product(adj, dA)


det_p.defvjp(_det_fwd, _det_bwd)
det_p.defjvp(_det_jvp, source="Giles (2008), Collected matrix derivative results, section 2.2.4")


# --- Determinant and adjugate: delta = det A and adj(A) = delta A^-1, of any rank

det_and_adjugate_p = Operation(
    "det_and_adjugate",
    adjugate.det_and_adjugate,
    small=small_kernel("det_and_adjugate", adjugate.small_det_and_adjugate),
)


# Rules. The derivative D adj(A)[E] of the adjugate is bilinear in E and the matrix that its trace is taken with,
# tr(G D adj(A)[E]) = D^2 det(A)[E, G], and symmetric in the two:
#   forward   d delta = tr(adj(A) dA),   d adj = D adj(A)[dA]
#   reverse   A_bar = delta_bar adj(A)^H + (D adj(A)[adj_bar^H])^H


def _det_and_adjugate_fwd(A):
    delta, adj = det_and_adjugate_p(A)
    return (delta, adj), (A, delta, adj)


def _det_and_adjugate_bwd(residuals, cotangents):
    A, delta, adj = residuals
    delta_bar, adj_bar = cotangents
    terms = []
    if delta_bar is not None:
        terms.append(delta_bar[..., None, None] * H(adj))
    if adj_bar is not None:
        terms.append(H(adjugate_derivative_p(A, delta, adj, H(adj_bar))))
    return (sum(terms[1:], terms[0]),)


def _det_and_adjugate_jvp(residuals, dA):
    A, delta, adj = residuals
    return trace_of_product(adj, dA), adjugate_derivative_p(A, delta, adj, dA)


det_and_adjugate_p.defvjp(_det_and_adjugate_fwd, _det_and_adjugate_bwd)
det_and_adjugate_p.defjvp(
    _det_and_adjugate_jvp, source="Magnus and Neudecker (2019), Matrix Differential Calculus, section 8.6"
)


# --- Derivative of the adjugate: K = D adj(A)[E], of any rank

adjugate_derivative_p = Operation("adjugate_derivative", adjugate.adjugate_derivative, linear_in=({3},), at_hand=(1, 2))


# Rules. D^3 det is symmetric as well; with Q(E, F) = D^2 adj(A)[E, F], at nonsingular A:
#   forward   dK = D adj(A)[dE] + Q(E, dA)
#   reverse   E_bar = (D adj(A)[K_bar^H])^H,   A_bar = Q(E, K_bar^H)^H


def _adjugate_derivative_fwd(A, delta, adj, E):
    return adjugate_derivative_p(A, delta, adj, E), (A, delta, adj, E)


def _adjugate_derivative_bwd(residuals, K_bar):
    A, delta, adj, E = residuals
    E_bar = H(adjugate_derivative_p(A, delta, adj, H(K_bar)))
    return H(_second_variation(A, delta, adj, E, H(K_bar))), None, None, E_bar


def _adjugate_derivative_jvp(residuals, dA, _d_delta, _d_adj, dE):
    A, delta, adj, E = residuals
    terms = []
    if dE is not None:
        terms.append(adjugate_derivative_p(A, delta, adj, dE))
    if dA is not None:
        terms.append(_second_variation(A, delta, adj, E, dA))
    return sum(terms[1:], terms[0])


adjugate_derivative_p.defvjp(_adjugate_derivative_fwd, _adjugate_derivative_bwd)
adjugate_derivative_p.defjvp(
    _adjugate_derivative_jvp, source="Magnus and Neudecker (2019), Matrix Differential Calculus, section 8.6"
)


def _second_variation(A: jax.Array, delta: jax.Array, adj: jax.Array, E: jax.Array, F: jax.Array) -> jax.Array:
    """D^2 adj(A)[E, F]: the derivative of the first variation; NaN where A is too close to a singular matrix."""
    X = adj / delta[..., None, None]
    XE, XF = X @ E, X @ F
    XEX, XFX = XE @ X, XF @ X
    e, f = (jnp.trace(Y, axis1=-2, axis2=-1)[..., None, None] for Y in (XE, XF))
    ef = trace_of_product(XE, XF)[..., None, None]
    Q = delta[..., None, None] * ((e * f - ef) * X - f * XEX - e * XFX + XF @ XEX + XE @ XFX)
    return nan_where(~adjugate.inverse_serves(A, delta, X, power=1 / 2), Q)


# --- Sign and logarithm

slogdet_p = Operation("slogdet", lambda A: factors.slogdet(*lapack.lu_factor(A)), small=small_kernel("slogdet"))


def _slogdet_and_inverse(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    LU, pivots = lapack.lu_factor(A)
    return *factors.slogdet(LU, pivots), H(factors.adjoint_of_inverse(LU, pivots))


slogdet_and_inverse_p = Operation(
    "slogdet_and_inverse", _slogdet_and_inverse, small=small_kernel("slogdet_and_inverse")
)


# Rules (Giles 2008). With sigma the sign, lambda the logarithm and tau = tr(A^-1 dA), the change of log det A:
#   forward   d lambda = Re tau,   d sigma = i Im(tau) sigma
#   reverse   A_bar = (lambda_bar - i Im(conj(sigma_bar) sigma)) A^-H
# and of the inverse X, which both leave behind:
#   forward   dX = -X dA X
#   reverse   A_bar = -X^H X_bar X^H


def _slogdet_fwd(A):
    sign, logabsdet, X = slogdet_and_inverse_p(A)
    return (sign, logabsdet), (sign, X)


def _slogdet_bwd(residuals, cotangents):
    sign, X = residuals
    return (_weight(sign, *cotangents)[..., None, None] * H(X),)


def _slogdet_jvp(residuals, dA):
    sign, X = residuals
    return _change_of_slogdet(sign, X, dA)


def _change_of_slogdet(sign, X, dA):
    tau = trace_of_product(X, dA)
    d_sign = (tau - jnp.real(tau).astype(tau.dtype)) * sign
    return d_sign, jnp.real(tau)


slogdet_p.defvjp(_slogdet_fwd, _slogdet_bwd)
slogdet_p.defjvp(_slogdet_jvp, source="Giles (2008), Collected matrix derivative results, section 2.2.4")


def _slogdet_and_inverse_fwd(A):
    sign, logabsdet, X = slogdet_and_inverse_p(A)
    return (sign, logabsdet, X), (sign, X)


def _slogdet_and_inverse_bwd(residuals, cotangents):
    sign, X = residuals
    sign_bar, logabsdet_bar, X_bar = cotangents
    terms = []
    if sign_bar is not None or logabsdet_bar is not None:
        terms.append(_weight(sign, sign_bar, logabsdet_bar)[..., None, None] * H(X))
    if X_bar is not None:
        terms.append(-(H(X) @ (X_bar @ H(X))))
    return (sum(terms[1:], terms[0]),)


def _slogdet_and_inverse_jvp(residuals, dA):
    sign, X = residuals
    return *_change_of_slogdet(sign, X, dA), -(X @ (dA @ X))


slogdet_and_inverse_p.defvjp(_slogdet_and_inverse_fwd, _slogdet_and_inverse_bwd)
slogdet_and_inverse_p.defjvp(
    _slogdet_and_inverse_jvp, source="Giles (2008), Collected matrix derivative results, sections 2.2.3 and 2.2.4"
)


def _weight(sign: jax.Array, sign_bar: jax.Array | None, logabsdet_bar: jax.Array | None) -> jax.Array:
    """What the inverse is multiplied with in A_bar."""
    weight = jnp.zeros_like(sign) if logabsdet_bar is None else logabsdet_bar.astype(sign.dtype)
    if sign_bar is not None and jnp.iscomplexobj(sign):
        turn = jnp.imag(jnp.conj(sign_bar) * sign)
        weight = weight - lax.complex(jnp.zeros_like(turn), turn)
    return weight


# --- Sign and logarithm of one or two rows, by cofactors


def _slogdet(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    sign, logabsdet = (slogdet_by_cofactors_p if 0 < extent(A.shape[-1]) <= 2 else slogdet_p)(A)
    return sign, logabsdet


slogdet_by_cofactors_p = by_cofactors("slogdet_by_cofactors", cofactor_expansion.slogdet)


# Rules (Giles 2008). Those of the sign and the logarithm above, from A: to invert it again takes less time than to keep
# the inverse.


def _slogdet_by_cofactors_fwd(A):
    sign, logabsdet = slogdet_by_cofactors_p(A)
    return (sign, logabsdet), (sign, A)


def _slogdet_by_cofactors_bwd(residuals, cotangents):
    sign, A = residuals
    return _slogdet_bwd((sign, inverse_by_cofactors_p(A)[0]), cotangents)


def _slogdet_by_cofactors_jvp(residuals, dA):
    sign, A = residuals
    return _slogdet_jvp((sign, inverse_by_cofactors_p(A)[0]), dA)


slogdet_by_cofactors_p.defvjp(_slogdet_by_cofactors_fwd, _slogdet_by_cofactors_bwd)
slogdet_by_cofactors_p.defjvp(
    _slogdet_by_cofactors_jvp, source="Giles (2008), Collected matrix derivative results, section 2.2.4"
)
