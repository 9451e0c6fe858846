"""Norms of vectors and matrices, at every scale, with subgradients where they are not smooth.

Sources: Rockafellar (1970), "Convex Analysis", theorem 25.1 and section 23 (subgradients); Watson (1992),
"Characterization of the subdifferential of some matrix norms", Linear Algebra and its Applications 170.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from linalgx._core.arguments import array, inexact_array, normalize_axes, public, require_matrix
from linalgx._core.batch_minor import SMALL, fold, itself
from linalgx._core.errors import info_of_spectrum, report
from linalgx._core.loops import materialise
from linalgx._core.matrix import squared_modulus
from linalgx._core.operation import Operation, SmallKernel, always
from linalgx._kernels.exponents import power_of_two
from linalgx._kernels.overflow import as_double, in_double, is_single, some_nan
from linalgx.decompositions.svd import svdvals_p

REAL = (int, float, np.integer, np.floating)
FEW = 16
"""The most adjacent numbers that are reduced one by one, which XLA vectorises."""

MATRIX_ORDERS = ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)


@public("axis", "keepdims", "ord", "dtype", lists=("axis",))
def vector_norm(
    x: ArrayLike,
    /,
    *,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    ord: float = 2,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Norm of vectors: ``(sum of |x|^ord)^(1/ord)``, the largest modulus (inf), the smallest (-inf), or the count (0).

    Args:
        x: any shape, real or complex.
        axis: the axis or axes that hold the vectors; None takes the whole array as one vector.
        keepdims: keep the reduced axes, with length 1.
        ord: any real number, inf or -inf. 0 counts the elements that are not zero.
        dtype: the dtype that x is converted to first: a floating one, or a complex one (only that if x is complex).

    Returns:
        The norms, real, x.shape without the axes that hold the vectors, in the promoted dtype of x. They are
        computed without overflow or underflow on the way: the norm of [1e200, 1e200] is 1.4e200.

    Raises:
        ValueError: if axis does not exist or is repeated, if ord is not a real number, or if it is negative and
            the vectors have no elements.
        TypeError: if x is not an array of numbers, or cannot be converted to dtype.

    On failure:
        NaN in x gives NaN in that norm alone (``ord=0`` counts it).

    Derivatives:
        both modes, every order, at every scale. Where the norm is not smooth, a subgradient, and finite second
        derivatives: 0 at x = 0; 0 for a zero element (``ord`` below 2, also where the derivative is infinite: ``ord``
        below 1; and for negative ``ord``, where it makes the norm 0); elements that tie, to rounding, for ``ord=inf``
        or ``-inf`` share equally. ``ord=0`` is constant. The square of the norm has second derivative 0 at x = 0, too:
        where it is wanted there, write :func:`vecdot` of x with itself.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.vector_norm(jnp.array([[3e30, 4e30], [0.0, 0.0]]), axis=-1)
        Array([5.e+30, 0.e+00], dtype=float32)

    Source:
        Rockafellar (1970), Convex Analysis, section 23.
    """
    X = _converted("vector_norm", x, dtype)
    axes = tuple(range(X.ndim)) if axis is None else normalize_axes("vector_norm", "axis", axis, X.ndim)
    return _squeeze(norm_of_vectors("vector_norm", X, ord, axes), axes, keepdims)


@public("keepdims", "ord", "dtype")
def matrix_norm(
    x: ArrayLike, /, *, keepdims: bool = False, ord: str | float = "fro", dtype: DTypeLike | None = None
) -> jax.Array:
    """Norm of matrices.

    Args:
        x: shape (..., m, n), real or complex.
        keepdims: keep the last two axes, with length 1.
        ord: "fro" (or "f"), the 2-norm of all elements; "nuc", the sum of the singular values; 2 or -2, the largest or
            the smallest of them; 1 or -1, the largest or the smallest sum of moduli in a column; inf or -inf, in a row.
        dtype: the dtype that x is converted to first, as in :func:`vector_norm`.

    Returns:
        The norms, real, shape (...), in the promoted dtype of x; 0 for a matrix without elements.

    Raises:
        ValueError: if x has fewer than two axes, if ord is none of these, or if it is negative and there is nothing
            to take the smallest of.
        TypeError: if x is not an array of numbers, or cannot be converted to dtype.
        LinAlgError: inside :func:`raise_errors`, for "nuc", 2 and -2, if a matrix holds NaN or infinity, or LAPACK did
            not converge.

    On failure:
        NaN in x gives NaN in that norm alone.

    Derivatives:
        both modes, every order. Where the norm is not smooth, a subgradient: columns, rows or singular values that
        tie share it equally (they tie if they agree to rounding); "fro", 1, -1, inf and -inf have
        gradient 0 at x = 0, "nuc" has U V^H wherever x is rank deficient, also at 0, 2 and -2 have U V^H / min(m, n)
        at 0.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.matrix_norm(jnp.array([[3.0, 0.0], [0.0, 4.0]]), ord="nuc")
        Array(7., dtype=float32)

    Source:
        Watson (1992), Linear Algebra and its Applications 170, 33-45.
    """
    X = _converted("matrix_norm", x, dtype)
    require_matrix("matrix_norm", x=X)
    axes = (X.ndim - 2, X.ndim - 1)
    return _squeeze(norm_of_matrices("matrix_norm", X, ord, axes), axes, keepdims)


@public("ord", "axis", "keepdims", "dtype", lists=("axis",))
def norm(
    x: ArrayLike,
    ord: str | float | None = None,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    *,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Norm of vectors or of matrices, as :func:`numpy.linalg.norm` tells them apart.

    Args:
        x: any shape, real or complex.
        ord: an order of :func:`vector_norm` or :func:`matrix_norm`; None is the 2-norm of all elements.
        axis: one axis for vectors, two different ones for matrices, and if ord is None any number of axes. None takes
            the whole array: flattened if ord is None, and otherwise as the vector or the matrix that it is.
        keepdims: keep the reduced axes, with length 1.
        dtype: the dtype that x is converted to first, as in :func:`vector_norm`.

    Returns:
        The norms, real, x.shape without the reduced axes, in the promoted dtype of x.

    Raises:
        ValueError: if axis does not exist or is repeated; if ord is given and there are neither one nor two axes; if
            ord is not an order of that norm.
        TypeError: if x is not an array of numbers, or cannot be converted to dtype.
        LinAlgError: inside :func:`raise_errors`, as :func:`matrix_norm`.

    On failure:
        NaN in x gives NaN in that norm alone.

    Derivatives:
        as :func:`vector_norm` and :func:`matrix_norm`.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.norm(jnp.array([[3.0, 4.0], [6.0, 8.0]]), axis=1)
        Array([ 5., 10.], dtype=float32)

    Source:
        Rockafellar (1970), Convex Analysis, section 23.
    """
    X = _converted("norm", x, dtype)
    everything = tuple(range(X.ndim))
    axes = everything if axis is None else normalize_axes("norm", "axis", axis, X.ndim)
    if ord is None:
        out = norm_of_vectors("norm", X, 2, axes)
    elif len(axes) == 1:
        out = norm_of_vectors("norm", X, ord, axes)
    elif len(axes) == 2:
        out = norm_of_matrices("norm", X, ord, axes)
    elif axis is None:
        raise ValueError(f"linalgx.norm: x must have one or two axes if ord is given, but its shape is {X.shape}")
    else:
        raise ValueError(f"linalgx.norm: axis must be one axis or two if ord is given, but {axis} came")
    return _squeeze(out, axes, keepdims)


def _converted(function: str, x: ArrayLike, dtype: DTypeLike | None) -> jax.Array:
    """The argument of a norm in the dtype in which it is computed."""
    if dtype is not None:
        x = array(function, x=x)
        kind = jnp.complexfloating if jnp.iscomplexobj(x) else jnp.inexact
        if not jnp.issubdtype(dtype, kind):
            raise TypeError(f"linalgx.{function}: x of dtype {x.dtype} has no norm in dtype {jnp.dtype(dtype)}")
        x = x.astype(dtype)
    return inexact_array(function, x=x)


def _squeeze(x: jax.Array, axes: tuple[int, ...], keepdims: bool) -> jax.Array:
    return x if keepdims else jnp.squeeze(x, axes)


def norm_of_vectors(function: str, X: jax.Array, ord: Any, axes: tuple[int, ...]) -> jax.Array:
    """The norm of order ``ord`` along ``axes``, which stay with length 1."""
    ord = 2 if ord is None else ord
    try:
        order = float(ord) if isinstance(ord, REAL) else math.nan
    except OverflowError:
        order = math.nan
    if math.isnan(order):
        raise ValueError(f"linalgx.{function}: ord must be a real number for vectors, but {ord!r} came")
    if order < 0 and not all(X.shape[axis] for axis in axes):
        raise ValueError(f"linalgx.{function}: ord must not be negative for vectors of length 0, but {ord} came")
    if order == 0:
        return jnp.sum(X != 0, axis=axes, keepdims=True, dtype=jnp.finfo(X.dtype).dtype)
    return vector_norm_p(X, ord=order, axis=tuple(axis - X.ndim for axis in axes))


def norm_of_matrices(function: str, X: jax.Array, ord: Any, axes: tuple[int, int]) -> jax.Array:
    """The matrix norm of order ``ord`` along the two ``axes``, which stay with length 1."""
    ord = matrix_order(function, "ord", ord)
    if ord == "fro":
        return norm_of_vectors(function, X, 2, axes)
    if ord in ("nuc", 2, -2):
        moved = jnp.moveaxis(X, axes, (-2, -1))
        S = svdvals_p(moved)
        report(function, "", info_of_spectrum, moved, S)
        out = jnp.sum(S, axis=-1) if ord == "nuc" else extreme_singular_value(function, S, largest=ord == 2)
        return jnp.expand_dims(out, axes)
    summed, compared = axes if abs(ord) == 1 else axes[::-1]
    sums = norm_of_vectors(function, X, 1, (summed,))
    return norm_of_vectors(function, sums, math.copysign(math.inf, ord), (compared,))


def matrix_order(function: str, name: str, ord: Any) -> Any:
    """The order of a matrix norm, "fro" for NumPy's other name "f"; raise if it is none. 1 and 1.0 are the same."""
    ord = "fro" if ord == "f" else ord
    if not (isinstance(ord, (str, *REAL)) and ord in MATRIX_ORDERS):
        options = ", ".join(map(repr, MATRIX_ORDERS))
        raise ValueError(f"linalgx.{function}: {name} must be one of {options} for matrices, but {ord!r} came")
    return ord


def extreme_singular_value(function: str, S: jax.Array, largest: bool) -> jax.Array:
    """The largest or the smallest of descending singular values, of shape (..., k); of none, the largest is 0."""
    if S.shape[-1]:
        return extreme_p(S, largest=largest)
    if not largest:
        raise ValueError(f"linalgx.{function}: x must have elements for a smallest singular value, but it has none")
    return jnp.sum(S, axis=-1)


# --- p-norm of vectors: n = (sum |x|^p)^(1/p) along the axes, which stay with length 1


def _p_norm(X: jax.Array, *, ord: float, axis: tuple[int, ...]) -> jax.Array:
    if not axis:
        return jnp.abs(X)
    if ord == 1:
        return _sum(X, axis, jnp.abs)
    if math.isinf(ord):
        return _with_nan(_extreme_modulus(X, ord, axis), X, axis)
    if ord == 2 and is_single(X) and _is_folded(X, axis):
        return in_double(lambda X: jnp.sqrt(_sum(X, axis, lambda x: squared_modulus(as_double(x)))))(X)
    terms = _terms(X, axis)
    power_sum = _power_sum(X, ord, axis)
    norm = materialise(jnp.where(_is_precise(power_sum, ord, terms), _root(power_sum, ord), jnp.nan))

    def scaled(X: jax.Array, norm: jax.Array) -> jax.Array:
        extreme = _extreme_modulus(X, ord, axis)
        # which may have lost a NaN, other than the sum
        norm = jnp.where((extreme == 0) & ~jnp.isnan(power_sum), 0, norm)
        return jax.lax.cond(some_nan(norm), _scaled_root, lambda X, norm, extreme: norm, X, norm, extreme)

    def _scaled_root(X: jax.Array, norm: jax.Array, extreme: jax.Array) -> jax.Array:
        # relative to the largest element (the smallest, for a negative order) no term exceeds 1, and one is 1
        unit = jnp.where((extreme > 0) & (extreme < jnp.inf), extreme, 1)
        return jnp.where(jnp.isnan(norm), unit * _root(_power_sum(_divide(X, unit), ord, axis), ord), norm)

    # one pass if no sum of powers overflowed or underflowed; two if all that did are of zeros; three otherwise
    return jax.lax.cond(some_nan(norm), scaled, lambda X, norm: norm, X, norm)


def _is_precise(power_sum: jax.Array, ord: float, terms: int) -> jax.Array:
    """Whether nothing that matters overflowed or underflowed in the sum, and its root is precise."""
    finfo = jnp.finfo(power_sum.dtype)
    low, high = terms * float(finfo.tiny) / float(finfo.eps), float(finfo.max)
    if ord != 2:
        # the error of a power is that of its exponent times the logarithm of its base
        low, high = max(low, math.exp(-30)), math.exp(30)
    return (power_sum > low) & (power_sum <= high)


def _power_sum(X: jax.Array, ord: float, axis: tuple[int, ...]) -> jax.Array:
    if ord == 2:
        return _sum(X, axis, squared_modulus)
    return _sum(X, axis, lambda X: jnp.abs(X) ** (int(ord) if ord.is_integer() else ord))


def _sum(X: jax.Array, axis: tuple[int, ...], of: Callable[[jax.Array], jax.Array] = itself) -> jax.Array:
    return _reduced(X, axis, of, jnp.add, jnp.sum)


def _reduced(
    X: jax.Array,
    axis: tuple[int, ...],
    of: Callable[[jax.Array], jax.Array],
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    reduction: Callable[..., jax.Array],
) -> jax.Array:
    """The reduction of ``of(X)``, number by number, along the axes, which stay with length 1."""
    if _is_folded(X, axis):
        return jnp.expand_dims(fold(combine, X, axis, of), axis)
    return reduction(of(X), axis, keepdims=True)


def _is_folded(X: jax.Array, axis: tuple[int, ...]) -> bool:
    """Whether reductions go number by number: XLA's own are slow for few, and where they leave the last axis."""
    return 0 < _terms(X, axis) <= (FEW if -1 in axis else SMALL**2)


def _terms(X: jax.Array, axis: tuple[int, ...]) -> int:
    """How many numbers are summed along the axes; a bound of it along a symbolic one."""
    return math.prod(size if isinstance(size, int) else 2**31 for size in (X.shape[i] for i in axis))


def _root(power_sum: jax.Array, ord: float) -> jax.Array:
    return jnp.sqrt(power_sum) if ord == 2 else power_sum ** (1 / ord)


def _extreme_modulus(X: jax.Array, ord: float, axis: tuple[int, ...]) -> jax.Array:
    """The largest |x| for a positive order, the smallest for a negative one."""
    if ord > 0:
        return _reduced(X, axis, jnp.abs, jnp.maximum, functools.partial(jnp.max, initial=0))
    return _reduced(X, axis, jnp.abs, jnp.minimum, jnp.min)


def _with_nan(extreme: jax.Array, X: jax.Array, axis: tuple[int, ...]) -> jax.Array:
    """The extreme moduli, but NaN where X holds NaN: XLA's own reductions may lose it (jax 0.10), but for sums."""
    if _is_folded(X, axis):
        return extreme

    def put(extreme: jax.Array, X: jax.Array) -> jax.Array:
        return jnp.where(jnp.any(jnp.isnan(X), axis, keepdims=True), jnp.nan, extreme)

    return jax.lax.cond(some_nan(jnp.sum(X, axis)), put, lambda extreme, X: extreme, extreme, X)


def _small_p_norm(X: jax.Array, *, ord: float, axis: tuple[int, ...]) -> jax.Array:
    """The same with a batch on one more axis, the last."""
    return _p_norm(X, ord=ord, axis=tuple(i - 1 for i in axis))


vector_norm_p = Operation("vector_norm", _p_norm, small=SmallKernel(_small_p_norm, always, rank=None, in_front=_p_norm))


# Rules. With the sign sgn(x) = x / |x| (0 at 0) and the gradient G = dn/dx of the same shape as x,
#   forward   dn = Re sum conj(G) dx        reverse   x_bar = n_bar G
#   G = sgn(x) (|x| / n)^(p - 1)            for p = 2: x / n;  for p = 1: sgn(x)
#   G = sgn(x) t / sum(t)                   for p = inf, -inf: t is 1 where |x| agrees with n to rounding, 0 elsewhere
# |x| / n has the scale of x divided out. Where n = 0, and at elements that are 0, G is 0 with all its derivatives,
# except for even p, where G is a polynomial in x / n.


def _vector_norm_fwd(X, **params):
    n = vector_norm_p(X, **params)
    return n, (X, n)


def _vector_norm_bwd(residuals, n_bar, *, ord, axis):
    X, n = residuals
    return (_scale(_gradient(X, n, ord, axis), n_bar),)


def _vector_norm_jvp(residuals, dX, *, ord, axis):
    X, n = residuals
    return _sum(_real_product(_gradient(X, n, ord, axis), dX), axis)


def _gradient(X: jax.Array, n: jax.Array, ord: float, axis: tuple[int, ...]) -> jax.Array:
    if ord == 1:
        return _sign(X)
    if math.isinf(ord) and axis:
        # a modulus, and the sums in X of a matrix norm, may be rounded in another way than when they were compared
        slack = 4 * jnp.finfo(n.dtype).eps
        modulus = _modulus(X)
        tied = (modulus >= (1 - slack) * n) if ord > 0 else (modulus <= (1 + slack) * n)
        tied = tied.astype(n.dtype)
        return _scale(_sign(X), tied / _sum(tied, axis))
    Q = _quotient_or_zero(X, n, axis)
    if not axis or ord == 2:
        return Q
    if ord > 0 and ord % 2 == 0:
        return _scale(Q, _real_product(Q, Q) ** (int(ord) // 2 - 1))
    ratio = _modulus(Q)
    powers = jnp.where(ratio == 0, 0, jnp.where(ratio == 0, 1, ratio) ** (ord - 1))
    return _scale(_sign(X), powers)


vector_norm_p.defvjp(_vector_norm_fwd, _vector_norm_bwd)
vector_norm_p.defjvp(_vector_norm_jvp, source="the chain rule; subgradients: Rockafellar (1970), section 23")


# --- Quotient Q = X / n of an array and a real scale that broadcasts along the axes


def _divide(X: jax.Array, n: jax.Array) -> jax.Array:
    # XLA multiplies by 1 / n, which is zero for the largest n; by parts: quotients of complex numbers would overflow
    unit = 1 / power_of_two(n)
    n = n * unit
    if jnp.iscomplexobj(X):
        return jax.lax.complex(jnp.real(X) * unit / n, jnp.imag(X) * unit / n)
    return X * unit / n


def _quotient(X: jax.Array, n: jax.Array, *, axis: tuple[int, ...]) -> jax.Array:
    return _divide(X, n)


quotient_p = Operation(
    "quotient",
    _quotient,
    linear_in=({0},),
    small=SmallKernel(_quotient, always, rank=None, in_front=_quotient),
)


# Rules, without the square of n, which would overflow or underflow:
#   forward   dQ = (dX - Q dn) / n        reverse   X_bar = Q_bar / n,   n_bar = -Re sum conj(Q) X_bar


def _quotient_fwd(X, n, *, axis):
    Q = quotient_p(X, n, axis=axis)
    return Q, (Q, n)


def _quotient_bwd(residuals, Q_bar, *, axis):
    Q, n = residuals
    X_bar = quotient_p(Q_bar, n, axis=axis)
    return X_bar, -_sum(_real_product(Q, X_bar), axis)


def _quotient_jvp(residuals, dX, dn, *, axis):
    Q, n = residuals
    moved = dX
    if dn is not None:
        moved = -_scale(Q, dn) if dX is None else dX - _scale(Q, dn)
    return quotient_p(moved, n, axis=axis)


quotient_p.defvjp(_quotient_fwd, _quotient_bwd)
quotient_p.defjvp(_quotient_jvp, source="the quotient rule")


# --- Largest or smallest of descending singular values s_1 >= ... >= s_k

extreme_p = Operation(
    "extreme",
    lambda S, *, largest: S[..., 0] if largest else S[..., -1],
    small=SmallKernel(lambda S, *, largest: S[0] if largest else S[-1], always, rank=1),
)


# Rules. With the weights w = t / sum(t), t_i = 1 where s_i agrees with the extreme one to rounding, 0 elsewhere:
#   forward   ds = sum(w ds_i)        reverse   s_bar_i = w_i s_bar
# The gradient U diag(w) V^H of the norm is then the one subgradient that no choice of basis can change.


def _extreme_fwd(S, *, largest):
    return extreme_p(S, largest=largest), (S,)


def _extreme_bwd(residuals, s_bar, *, largest):
    (S,) = residuals
    return (s_bar[..., None] * _tie_weights(S, largest),)


def _extreme_jvp(residuals, dS, *, largest):
    (S,) = residuals
    return jnp.sum(_tie_weights(S, largest) * dS, axis=-1)


def _tie_weights(S: jax.Array, largest: bool) -> jax.Array:
    rounding = 8 * S.shape[-1] * jnp.finfo(S.dtype).eps * S[..., :1]
    tied = (S >= S[..., :1] - rounding) if largest else (S <= S[..., -1:] + rounding)
    tied = tied.astype(S.dtype)
    return tied / jnp.sum(tied, axis=-1, keepdims=True)


extreme_p.defvjp(_extreme_fwd, _extreme_bwd)
extreme_p.defjvp(_extreme_jvp, source="Watson (1992), Linear Algebra and its Applications 170, theorem 2")


# --- the letters of the rules


def _real_product(X: jax.Array, Y: jax.Array) -> jax.Array:
    """Re(conj(X) Y), element by element."""
    if not jnp.iscomplexobj(X):
        return X * Y
    return jnp.real(X) * jnp.real(Y) + jnp.imag(X) * jnp.imag(Y)


def _scale(X: jax.Array, c: jax.Array) -> jax.Array:
    """X times a real array."""
    return jax.lax.complex(jnp.real(X) * c, jnp.imag(X) * c) if jnp.iscomplexobj(X) else X * c


def _modulus(X: jax.Array) -> jax.Array:
    """|X|, element by element, with derivative sgn(X)."""
    return vector_norm_p(X, ord=2.0, axis=()) if jnp.iscomplexobj(X) else jnp.abs(X)


def _sign(X: jax.Array) -> jax.Array:
    """X / |X|, element by element, and 0 at 0."""
    return _quotient_or_zero(X, _modulus(X), ()) if jnp.iscomplexobj(X) else jnp.sign(X)


def _quotient_or_zero(X: jax.Array, n: jax.Array, axis: tuple[int, ...]) -> jax.Array:
    """X / n, and 0 with all its derivatives where n is 0."""
    zero = n == 0
    return jnp.where(zero, 0, quotient_p(X, jnp.where(zero, 1, n), axis=axis))
