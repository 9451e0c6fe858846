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
from jax.typing import ArrayLike, DTypeLike

from linalgx._core.arguments import public, require_option, square_matrix
from linalgx._core.batch_minor import batch_minor
from linalgx._core.errors import nan_where, report
from linalgx._core.matrix import H, diagonal, from_diagonal, identity
from linalgx._core.operation import Operation
from linalgx._core.results import SlogdetResult
from linalgx._kernels import cofactor_expansion, lapack
from linalgx._kernels.batch_minor import cofactors, elimination
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
        where the condition number is below 1 / sqrt(eps), and NaN elsewhere.

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
    return det_p(A) if A.shape[-1] > 3 else det_by_cofactors_p(A)


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

det_p = Operation("det", lambda A: _det_of_factors(*lapack.lu_factor(A)), small=small_kernel("det"))


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
    return _trace_of_product(adj, dA)


det_p.defvjp(_det_fwd, _det_bwd)
det_p.defjvp(_det_jvp, source="Giles (2008), Collected matrix derivative results, section 2.2.4")


# --- Determinant and adjugate: delta = det A and adj(A) = delta A^-1, of any rank


def _det_and_adjugate(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    LU, pivots = lapack.lu_factor(A)
    delta = _det_of_factors(LU, pivots)
    # adj(A)^H until the end, as the gradient holds it
    by_inverse = jnp.conj(delta)[..., None, None] * _adjoint_of_inverse(LU, pivots)
    good = _inverse_serves(A, delta, by_inverse, power=1, adjoint=True)

    def by_singular_values(A: jax.Array, by_inverse: jax.Array) -> jax.Array:
        return jnp.where(good[..., None, None], by_inverse, H(_adjugate_by_singular_values(A)))

    return delta, H(lax.cond(jnp.all(good), lambda _, X: X, by_singular_values, A, by_inverse))


def _adjoint_of_inverse(LU: jax.Array, pivots: jax.Array) -> jax.Array:
    """A^-H: what gradients hold is computed as it lies in memory, not its transpose."""
    return lapack.lu_solve(LU, pivots, identity(LU), left=False, adjoint=True)


def _small_det_and_adjugate(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same, of small matrices with the batch last."""
    if A.shape[0] == 4:
        return elimination.det(A), cofactors.adjugate(A)
    delta, X = elimination.det_and_inverse(A)
    by_inverse = delta * X
    good = batch_minor(_inverse_serves)(A, delta, by_inverse, power=1)

    def by_singular_values(A: jax.Array, by_inverse: jax.Array) -> jax.Array:
        adj = _adjugate_by_singular_values(jnp.moveaxis(A, -1, 0))
        return jnp.where(good, by_inverse, jnp.moveaxis(adj, 0, -1))

    return delta, lax.cond(jnp.all(good), lambda _, X: X, by_singular_values, A, by_inverse)


def _adjugate_by_singular_values(A: jax.Array) -> jax.Array:
    U, S, Vh, c = _svd_with_determinant(A)
    return c[..., None, None] * (H(Vh) * _products_without_one(S)[..., None, :].astype(A.dtype)) @ H(U)


det_and_adjugate_p = Operation(
    "det_and_adjugate", _det_and_adjugate, small=small_kernel("det_and_adjugate", _small_det_and_adjugate)
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
    return _trace_of_product(adj, dA), adjugate_derivative_p(A, delta, adj, dA)


det_and_adjugate_p.defvjp(_det_and_adjugate_fwd, _det_and_adjugate_bwd)
det_and_adjugate_p.defjvp(
    _det_and_adjugate_jvp, source="Magnus and Neudecker (2019), Matrix Differential Calculus, section 8.6"
)


# --- Derivative of the adjugate: K = D adj(A)[E], of any rank
#
# Where A is well conditioned, from adj(A) = delta X with X = A^-1:
#   K = delta (tr(X E) X - X E X)
# Elsewhere from A = U diag(s) V^H with c = det(U) det(V^H), M = U^H E V, and p_ij the product of all singular values
# but s_i and s_j, without any division:
#   K = c V D U^H,   D_ij = -p_ij M_ij for i != j,   D_ii = sum over j != i of p_ij M_jj


def _adjugate_derivative(A: jax.Array, delta: jax.Array, adj: jax.Array, E: jax.Array) -> jax.Array:
    # the two terms of the first form cancel to the second smallest singular value: two thirds of the digits remain
    good = _inverse_serves(A, delta, adj, power=1 / 3)
    by_inverse = _first_variation(delta, adj, E)

    def by_singular_values(A: jax.Array, E: jax.Array, by_inverse: jax.Array) -> jax.Array:
        U, S, Vh, c = _svd_with_determinant(A)
        M = H(U) @ E @ H(Vh)
        p = _products_without_two(S).astype(A.dtype)
        D = from_diagonal((p @ diagonal(M)[..., None])[..., 0]) - p * M
        K = c[..., None, None] * (H(Vh) @ D @ H(U))
        return jnp.where(good[..., None, None], by_inverse, K)

    return lax.cond(jnp.all(good), lambda A, E, K: K, by_singular_values, A, E, by_inverse)


adjugate_derivative_p = Operation("adjugate_derivative", _adjugate_derivative, linear_in=({3},), at_hand=(1, 2))


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


def _first_variation(delta: jax.Array, adj: jax.Array, E: jax.Array) -> jax.Array:
    """D adj(A)[E] = delta (tr(X E) X - X E X), where X = adj / delta."""
    X = adj / delta[..., None, None]
    return _trace_of_product(X, E)[..., None, None] * adj - adj @ E @ X


def _second_variation(A: jax.Array, delta: jax.Array, adj: jax.Array, E: jax.Array, F: jax.Array) -> jax.Array:
    """D^2 adj(A)[E, F]: the derivative of the first variation; NaN where A is too close to a singular matrix."""
    X = adj / delta[..., None, None]
    XE, XF = X @ E, X @ F
    XEX, XFX = XE @ X, XF @ X
    e, f = (jnp.trace(Y, axis1=-2, axis2=-1)[..., None, None] for Y in (XE, XF))
    ef = _trace_of_product(XE, XF)[..., None, None]
    Q = delta[..., None, None] * ((e * f - ef) * X - f * XEX - e * XFX + XF @ XEX + XE @ XFX)
    return nan_where(~_inverse_serves(A, delta, adj, power=1 / 2), Q)


def _inverse_serves(A: jax.Array, delta: jax.Array, adj: jax.Array, power: float, adjoint: bool = False) -> jax.Array:
    """Whether |A| |A^-1| in the 1-norm is below eps^-power; or det A is NaN, and nothing is better.

    ``adjoint`` says that adj is adj(A)^H.

    With power = 1 that is enough for delta A^-1: by one tiny pivot delta and A^-1 are off alike, and their product is
    as accurate as that of the singular values.
    """
    limits = jnp.finfo(A.dtype)
    size = jnp.abs(delta)
    norm = jnp.max(jnp.sum(jnp.abs(A), axis=-2), axis=-1)
    # the norm goes into the sum, so that one follows the other: XLA takes longer to run short steps side by side
    columns = jnp.sum(jnp.abs(adj) * (norm / size)[..., None, None], axis=-1 if adjoint else -2)
    # one by one: a maximum may lose a NaN on the CPU
    good = jnp.all(columns < limits.eps**-power, axis=-1) & (size > limits.tiny / limits.eps)
    return good | jnp.isnan(delta)


def _svd_with_determinant(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """U, S, V^H and det(U) det(V^H), which has absolute value 1."""
    U, S, Vh = lapack.svd(A, full_matrices=False)
    c, _ = _slogdet_of_factors(*lapack.lu_factor(U @ Vh))
    return U, S, Vh, c


def _products_without_one(S: jax.Array) -> jax.Array:
    """p_i: the product of all elements of S but the i-th, from those before it and those behind it."""
    ones = jnp.ones_like(S[..., :1])
    before = jnp.cumprod(jnp.concatenate([ones, S[..., :-1]], axis=-1), axis=-1)
    behind = jnp.cumprod(jnp.concatenate([ones, S[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
    return before * behind


def _products_without_two(S: jax.Array) -> jax.Array:
    """p_ij: the product of all elements of S but the i-th and the j-th, and 0 on the diagonal."""
    n = S.shape[-1]
    same = jnp.eye(n, dtype=bool)
    rows = jnp.where(same, 1, S[..., None, :])
    return jnp.where(same, 0, _products_without_one(rows))


# --- Sign and logarithm

slogdet_p = Operation("slogdet", lambda A: _slogdet_of_factors(*lapack.lu_factor(A)), small=small_kernel("slogdet"))


def _slogdet_and_inverse(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    LU, pivots = lapack.lu_factor(A)
    return *_slogdet_of_factors(LU, pivots), H(_adjoint_of_inverse(LU, pivots))


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
    tau = _trace_of_product(X, dA)
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
    sign, logabsdet = (slogdet_by_cofactors_p if 0 < A.shape[-1] <= 2 else slogdet_p)(A)
    return sign, logabsdet


slogdet_by_cofactors_p = by_cofactors("slogdet_by_cofactors", cofactor_expansion.slogdet)


# Rules (Giles 2008). Those of the sign and the logarithm above, from A: to invert it again takes less time than to keep
# the inverse.


def _slogdet_by_cofactors_fwd(A):
    sign, logabsdet = slogdet_by_cofactors_p(A)
    return (sign, logabsdet), (sign, A)


def _slogdet_by_cofactors_bwd(residuals, cotangents):
    sign, A = residuals
    return _slogdet_bwd((sign, inverse_by_cofactors_p(A)), cotangents)


def _slogdet_by_cofactors_jvp(residuals, dA):
    sign, A = residuals
    return _slogdet_jvp((sign, inverse_by_cofactors_p(A)), dA)


slogdet_by_cofactors_p.defvjp(_slogdet_by_cofactors_fwd, _slogdet_by_cofactors_bwd)
slogdet_by_cofactors_p.defjvp(
    _slogdet_by_cofactors_jvp, source="Giles (2008), Collected matrix derivative results, section 2.2.4"
)


# --- From the factors: A = P L U


def _det_of_factors(LU: jax.Array, pivots: jax.Array) -> jax.Array:
    d, sign = diagonal(LU), _sign_of_permutation(pivots, LU.dtype)
    product = sign * jnp.prod(d, axis=-1)
    out_of_range = (product == 0) | ~jnp.isfinite(product)

    def through_logarithms(d: jax.Array, sign: jax.Array, product: jax.Array) -> jax.Array:
        sign, logabsdet = _sign_and_logarithm(d, sign)
        return jnp.where(out_of_range, sign * jnp.exp(logabsdet).astype(d.dtype), product)

    # the factors may leave the range of the dtype one after the other although the whole product does not
    return lax.cond(jnp.any(out_of_range), through_logarithms, lambda d, sign, product: product, d, sign, product)


def _slogdet_of_factors(LU: jax.Array, pivots: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _sign_and_logarithm(diagonal(LU), _sign_of_permutation(pivots, LU.dtype))


def _sign_and_logarithm(d: jax.Array, sign: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of the product of the elements of d, times the sign."""
    return sign * jnp.prod(jnp.sign(d), axis=-1), jnp.sum(jnp.log(jnp.abs(d)), axis=-1)


def _sign_of_permutation(pivots: jax.Array, dtype: DTypeLike) -> jax.Array:
    odd = jnp.sum(pivots != jnp.arange(pivots.shape[-1], dtype=pivots.dtype), axis=-1) % 2 == 1
    return jnp.where(odd, -1, 1).astype(dtype)


def _trace_of_product(X: jax.Array, Y: jax.Array) -> jax.Array:
    """tr(X Y)."""
    return jnp.sum(X * jnp.swapaxes(Y, -1, -2), axis=(-2, -1))
