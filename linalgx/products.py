"""Products of vectors and matrices, and the parts of a matrix that need no arithmetic.

They multiply at the precision that the user has set for JAX, or that is asked for, keep the dtypes that jax.numpy
gives them (integers stay integers, and booleans), and are made of jax.numpy's products, whose derivatives are exact.

Sources: Cormen, Leiserson, Rivest & Stein, "Introduction to Algorithms", section 15.2 (the order of a chain of
products).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from linalgx._core.arguments import (
    NATIVE,
    array,
    describe,
    integer,
    normalize_axes,
    normalize_axis,
    promoted_arrays,
    public,
    require_matrix,
)
from linalgx._core.batch_minor import extent, is_small
from linalgx._core.composite import composite
from linalgx._core.matrix import H
from linalgx._core.matrix import diagonal as matrix_diagonal
from linalgx._core.operation import Operation
from linalgx._kernels.batch_minor import products
from linalgx._kernels.select import small_kernel


@public("precision", "preferred_element_type", users_precision=True)
def matmul(
    x1: ArrayLike,
    x2: ArrayLike,
    /,
    *,
    precision: jax.lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
    """Matrix product.

    Args:
        x1: shape (..., m, k), or (k,); any dtype.
        x2: shape (..., k, n), or (k,); any dtype. The leading axes of x1 and x2 broadcast.
        precision: as in :func:`jax.numpy.matmul`; None is what the user has set for JAX.
        preferred_element_type: the dtype in which to accumulate and to return; None is the promoted dtype.

    Returns:
        The product, shape (..., m, n), without the axis of an argument that is a vector.

    Raises:
        ValueError: if an argument is a scalar or the shapes do not fit.
        TypeError: if an argument is not an array of numbers.

    Derivatives:
        both modes, every order, with respect to x1 and x2.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.matmul(jnp.array([[1, 2], [3, 4]]), jnp.array([1, 1]))
        Array([3, 7], dtype=int32)
    """
    X1, X2 = promoted_arrays("matmul", x1=x1, x2=x2)
    for name, X in (("x1", X1), ("x2", X2)):
        if X.ndim == 0:
            raise ValueError(f"linalgx.matmul: {name} must have at least one axis, but a scalar came")
    if X1.shape[-1] != X2.shape[-2 if X2.ndim > 1 else -1]:
        raise ValueError(f"linalgx.matmul: x1 of shape {X1.shape} and x2 of shape {X2.shape} do not fit")
    _broadcast("matmul", x1=X1.shape[:-2], x2=X2.shape[:-2])
    _require_room("matmul", preferred_element_type, X1.dtype)
    return product(X1, X2, precision=precision, preferred_element_type=preferred_element_type)


@public("axis", "precision", "preferred_element_type", users_precision=True)
def vecdot(
    x1: ArrayLike,
    x2: ArrayLike,
    /,
    *,
    axis: int = -1,
    precision: jax.lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
    """Inner product of vectors, the first conjugated: the sum of conj(x1) x2 along an axis.

    Args:
        x1: shape (..., n), any dtype.
        x2: shape (..., n), any dtype. The other axes of x1 and x2 broadcast.
        axis: the axis of x1 and of x2 that holds the vectors.
        precision: as in :func:`jax.numpy.matmul`; None is what the user has set for JAX.
        preferred_element_type: the dtype in which to accumulate and to return; None is the promoted dtype.

    Returns:
        The inner products, shape (...).

    Raises:
        ValueError: if axis does not exist or the shapes do not fit.
        TypeError: if an argument is not an array of numbers.

    Derivatives:
        both modes, every order, with respect to x1 and x2.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.vecdot(jnp.array([1j, 1.0]), jnp.array([1j, 2.0]))
        Array(3.+0.j, dtype=complex64)
    """
    X1, X2 = _vectors_last("vecdot", x1, x2, axis)
    if X1.shape[-1] != X2.shape[-1]:
        raise ValueError(f"linalgx.vecdot: x1 has vectors of length {X1.shape[-1]}, but x2 of length {X2.shape[-1]}")
    batch = _broadcast("vecdot", x1=X1.shape[:-1], x2=X2.shape[:-1])
    _require_room("vecdot", preferred_element_type, X1.dtype)
    options: dict[str, Any] = {"precision": precision, "preferred_element_type": preferred_element_type}
    if not batch:
        return _inner_product(X1, X2, **options)
    X1, X2 = (X.reshape((1,) * (len(batch) + 1 - X.ndim) + X.shape) for X in (X1, X2))
    row, column = jnp.conj(X1)[..., None, :], X2[..., :, None]
    if _is_small_product(row, column, **options):
        return product(row, column, **options)[..., 0, 0]
    return jnp.vecdot(X1, X2, **options)


@public(users_precision=True)
def outer(x1: ArrayLike, x2: ArrayLike, /) -> jax.Array:
    """Outer product of two vectors: all products x1[i] x2[j].

    Args:
        x1: shape (m,), any dtype.
        x2: shape (n,), any dtype; it is not conjugated.

    Returns:
        The products, shape (m, n), in the promoted dtype.

    Raises:
        ValueError: if an argument does not have exactly one axis.
        TypeError: if an argument is not an array of numbers.

    Derivatives:
        both modes, every order, with respect to x1 and x2.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.outer(jnp.array([1, 2]), jnp.array([3, 4]))
        Array([[3, 4],
               [6, 8]], dtype=int32)
    """
    X1, X2 = promoted_arrays("outer", x1=x1, x2=x2)
    for name, X in (("x1", X1), ("x2", X2)):
        if X.ndim != 1:
            raise ValueError(f"linalgx.outer: {name} must have one axis, but its shape is {X.shape}")
    return X1[:, None] * X2[None, :]


@public("axis", users_precision=True)
def cross(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> jax.Array:
    """Cross product of vectors with three elements.

    Args:
        x1: shape (..., 3), any dtype.
        x2: shape (..., 3), any dtype, not bool if x1 is. The other axes of x1 and x2 broadcast.
        axis: the axis of x1, of x2 and of the result that holds the vectors.

    Returns:
        The cross products, shape (..., 3), in the promoted dtype.

    Raises:
        ValueError: if axis does not exist or does not have length 3, or the shapes do not fit.
        TypeError: if an argument is not an array of numbers, or both are boolean.

    Derivatives:
        both modes, every order, with respect to x1 and x2.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.cross(jnp.array([1, 0, 0]), jnp.array([0, 1, 0]))
        Array([0, 0, 1], dtype=int32)
    """
    X1, X2 = _vectors_last("cross", x1, x2, axis)
    if X1.dtype == bool:
        raise TypeError("linalgx.cross: x1 and x2 must not both be boolean, which cannot be subtracted")
    for name, X in (("x1", X1), ("x2", X2)):
        if X.shape[-1] != 3:
            raise ValueError(f"linalgx.cross: {name} must have length 3 along axis {axis}, but it is {X.shape[-1]}")
    batch = _broadcast("cross", x1=X1.shape[:-1], x2=X2.shape[:-1])
    X1, X2 = (jnp.broadcast_to(X, (*batch, 3)) for X in (X1, X2))
    return jnp.moveaxis(jnp.cross(X1, X2), -1, axis)


@public("axes", "precision", "preferred_element_type", users_precision=True, lists=("axes",))
def tensordot(
    x1: ArrayLike,
    x2: ArrayLike,
    /,
    *,
    axes: int | Sequence[Any] = 2,
    precision: jax.lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
    """Contract axes of one array with axes of another.

    Args:
        x1: any shape, any dtype.
        x2: any shape, any dtype; it is not conjugated.
        axes: how many of the last axes of x1 to contract with as many of the first of x2, or a pair: the axes of x1
            and the axes of x2, each one integer or a sequence.
        precision: as in :func:`jax.numpy.matmul`; None is what the user has set for JAX.
        preferred_element_type: the dtype in which to accumulate and to return; None is the promoted dtype.

    Returns:
        The contraction: the axes of x1 that are left, followed by those of x2.

    Raises:
        ValueError: if the axes do not exist, are repeated, or do not fit.
        TypeError: if an argument is not an array of numbers, or axes is neither an integer nor a pair.

    Derivatives:
        both modes, every order, with respect to x1 and x2.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.tensordot(jnp.ones((2, 3, 4)), jnp.ones((4, 3)), axes=([1, 2], [1, 0]))
        Array([12., 12.], dtype=float32)
    """
    X1, X2 = promoted_arrays("tensordot", x1=x1, x2=x2)
    if not isinstance(axes, tuple):
        count = integer("tensordot", "axes", axes)
        if not 0 <= count <= min(X1.ndim, X2.ndim):
            raise ValueError(f"linalgx.tensordot: axes must be between 0 and {min(X1.ndim, X2.ndim)}, but {count} came")
        axes = tuple(range(X1.ndim - count, X1.ndim)), tuple(range(count))
    axes = tuple(side if isinstance(side, tuple) else (side,) for side in axes)
    if len(axes) != 2 or len(axes[0]) != len(axes[1]):
        raise ValueError(f"linalgx.tensordot: axes must be two sequences of the same length, but {axes} came")
    axes1 = normalize_axes("tensordot", "axes[0]", axes[0], X1.ndim)
    axes2 = normalize_axes("tensordot", "axes[1]", axes[1], X2.ndim)
    for i, j in zip(axes1, axes2, strict=True):
        if X1.shape[i] != X2.shape[j]:
            raise ValueError(
                f"linalgx.tensordot: axis {i} of x1 has length {X1.shape[i]}, but axis {j} of x2 has {X2.shape[j]}"
            )
    _require_room("tensordot", preferred_element_type, X1.dtype)
    return jnp.tensordot(
        X1, X2, axes=(axes1, axes2), precision=precision, preferred_element_type=preferred_element_type
    )


@public("precision", users_precision=True)
def multi_dot(arrays: Sequence[ArrayLike], *, precision: jax.lax.PrecisionLike = None) -> jax.Array:
    """Product of two or more matrices, in the order that takes the fewest multiplications.

    Args:
        arrays: a list or tuple of matrices, each of shape (..., k_i, k_i+1) and any dtype; the leading axes
            broadcast. The first and the last may have one axis: a row and a column.
        precision: as in :func:`jax.numpy.matmul`; None is what the user has set for JAX.

    Returns:
        The product, shape (..., k_0, k_n) in the promoted dtype, without the axis of a row or a column.

    Raises:
        ValueError: if there are fewer than two arrays or the shapes do not fit.
        TypeError: if arrays is not a list or tuple of arrays of numbers.

    Derivatives:
        both modes, every order, with respect to each matrix.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.multi_dot([jnp.ones((10, 100)), jnp.ones((100, 5)), jnp.ones(5)]).shape
        (10,)

    Source:
        Cormen et al., Introduction to Algorithms, section 15.2, with the batch counted in.
    """
    matrices = _chain(arrays)
    row, column = jnp.ndim(arrays[0]) == 1, jnp.ndim(arrays[-1]) == 1
    split = _cheapest_splits([X.shape for X in matrices])

    def chained(i: int, j: int) -> jax.Array:
        if i == j:
            return matrices[i]
        k = split[i, j]
        return product(chained(i, k), chained(k + 1, j), precision=precision)

    out = chained(0, len(matrices) - 1)
    return jnp.squeeze(out, axis=(-2,) * row + (-1,) * column)


@public("N", users_precision=True)
def vander(x: ArrayLike, *, N: int | None = None) -> jax.Array:
    """Vandermonde matrix: the powers of the elements of a vector, increasing along the rows as in torch.

    Args:
        x: shape (..., n), any dtype.
        N: the number of columns; None is n.

    Returns:
        The matrix with entries x[i]**j, shape (..., n, N), in the dtype of x. (:func:`numpy.vander` has the powers
        in decreasing order.)

    Raises:
        ValueError: if x is a scalar or N is negative.
        TypeError: if x is not an array of numbers or N is not an integer.

    Derivatives:
        both modes, every order, also where x is zero.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.vander(jnp.array([2, 3]), N=3)
        Array([[1, 2, 4],
               [1, 3, 9]], dtype=int32)
    """
    X = array("vander", x=x)
    if X.ndim == 0:
        raise ValueError("linalgx.vander: x must have at least one axis, but a scalar came")
    columns = X.shape[-1] if N is None else integer("vander", "N", N)
    if columns < 0:
        raise ValueError(f"linalgx.vander: N must not be negative, but {columns} came")
    base = (X.astype(int) if X.dtype == bool else X)[..., None]
    powers = jnp.ones_like(base)[..., : min(columns, 1)]
    while powers.shape[-1] < columns:
        # x^k times the first of the powers 1, x, ..., x^(k-1): no power is formed that is not asked for
        more = columns - powers.shape[-1]
        powers = jnp.concatenate([powers, powers[..., -1:] * base * powers[..., :more]], axis=-1)
    return powers


@public("offset", users_precision=True)
def diagonal(x: ArrayLike, /, *, offset: int = 0) -> jax.Array:
    """Diagonal of a matrix.

    Args:
        x: shape (..., m, n), any dtype.
        offset: which diagonal: 0 the main one, above it if positive, below it if negative.

    Returns:
        The diagonal, shape (..., k), k its length, in the dtype of x.

    Raises:
        ValueError: if x has fewer than two axes.
        TypeError: if x is not an array of numbers or offset is not an integer.

    Derivatives:
        both modes, every order.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.diagonal(jnp.array([[1, 2], [3, 4]]), offset=1)
        Array([2], dtype=int32)
    """
    X = array("diagonal", x=x)
    require_matrix("diagonal", x=X)
    return _diagonal(X, offset=integer("diagonal", "offset", offset))


@public("offset", "dtype", users_precision=True)
def trace(x: ArrayLike, /, *, offset: int = 0, dtype: DTypeLike | None = None) -> jax.Array:
    """Sum of a diagonal of a matrix.

    Args:
        x: shape (..., m, n), any dtype.
        offset: which diagonal: 0 the main one, above it if positive, below it if negative.
        dtype: the dtype of the sum; None is that of x, widened as :func:`jax.numpy.sum` does if it is an integer.

    Returns:
        The sum, shape (...).

    Raises:
        ValueError: if x has fewer than two axes.
        TypeError: if x is not an array of numbers or offset is not an integer.

    Derivatives:
        both modes, every order.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.trace(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
        Array(5., dtype=float32)
    """
    X = array("trace", x=x)
    require_matrix("trace", x=X)
    return _trace(X, offset=integer("trace", "offset", offset), dtype=dtype)


@public(users_precision=True)
def matrix_transpose(x: ArrayLike, /) -> jax.Array:
    """Transpose of a matrix, without conjugation.

    Args:
        x: shape (..., m, n), any dtype.

    Returns:
        The transpose, shape (..., n, m), in the dtype of x.

    Raises:
        ValueError: if x has fewer than two axes.
        TypeError: if x is not an array of numbers.

    Derivatives:
        both modes, every order.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.matrix_transpose(jnp.array([[1, 2], [3, 4]]))
        Array([[1, 3],
               [2, 4]], dtype=int32)
    """
    X = array("matrix_transpose", x=x)
    require_matrix("matrix_transpose", x=X)
    return _transpose(X)


# --- the steps that keep the layout of many small problems


@composite()
def _inner_product(x1: jax.Array, x2: jax.Array, **options: Any) -> jax.Array:
    return jnp.vecdot(x1, x2, **options)


@composite(in_front=True, picks=False)
def _transpose(X: jax.Array) -> jax.Array:
    return jnp.swapaxes(X, -1, -2)


def _offset_diagonal(X: jax.Array, offset: int) -> jax.Array:
    return matrix_diagonal(X[..., max(-offset, 0) :, max(offset, 0) :])


@composite(in_front=True)
def _diagonal(X: jax.Array, *, offset: int) -> jax.Array:
    return _offset_diagonal(X, offset)


@composite(in_front=True)
def _trace(X: jax.Array, *, offset: int, dtype: Any) -> jax.Array:
    return jnp.sum(_offset_diagonal(X, offset), axis=-1, dtype=dtype)


def product(X1: jax.Array, X2: jax.Array, **options: Any) -> jax.Array:
    """The matrix product, of small matrices as an operation that keeps their layout."""
    if not _is_small_product(X1, X2, **options):
        return jnp.matmul(X1, X2, **options)
    if X1.ndim == 1 or X2.ndim == 1:
        return _product_with_vector(X1, X2, **options)
    batch = jax.lax.broadcast_shapes(X1.shape[:-2], X2.shape[:-2])
    return matmul_p(*(jnp.broadcast_to(X, (*batch, *X.shape[-2:])) for X in (X1, X2)), **options)


def _is_small_product(X1: jax.Array, X2: jax.Array, **options: Any) -> bool:
    native = X1.dtype == X2.dtype and X1.dtype in NATIVE and options.get("preferred_element_type") is None
    return native and is_small([X1.shape[-2:], X2.shape[-2:]])


@composite(in_front=True, picks=False)
def _product_with_vector(X1: jax.Array, X2: jax.Array, **options: Any) -> jax.Array:
    return jnp.matmul(X1, X2, **options)


# leading axes stay in front: to move them costs more than the product
_small_matmul = small_kernel("matmul")._replace(in_front=products.matmul_in_front)
matmul_p = Operation("matmul", jnp.matmul, linear_in=({0}, {1}), small=_small_matmul)


# Rules.  C = A B:   dC = dA B + A dB,   A_bar = C_bar B^H,   B_bar = A^H C_bar


def _matmul_fwd(A, B, **options):
    return matmul_p(A, B, **options), (A, B)


def _matmul_bwd(residuals, C_bar, **options):
    A, B = residuals
    return matmul_p(C_bar, H(B), **options), matmul_p(H(A), C_bar, **options)


def _matmul_jvp(residuals, dA, dB, **options):
    A, B = residuals
    terms = [matmul_p(X, Y, **options) for X, Y in ((dA, B), (A, dB)) if X is not None and Y is not None]
    return sum(terms[1:], terms[0])


matmul_p.defvjp(_matmul_fwd, _matmul_bwd)
matmul_p.defjvp(_matmul_jvp, source="the product rule")


# --- options and shapes


def _require_room(function: str, dtype: Any, promoted: Any) -> None:
    """Raise unless JAX accumulates products of ``promoted`` numbers in ``dtype``."""
    number = jax.ShapeDtypeStruct((1,), promoted)
    try:
        jax.eval_shape(functools.partial(jnp.vecdot, preferred_element_type=dtype), number, number)
    except TypeError:
        raise TypeError(
            f"linalgx.{function}: preferred_element_type must have room for products of {promoted}, "
            f"but {jnp.dtype(dtype)} came"
        ) from None


def _broadcast(function: str, **named: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return jax.lax.broadcast_shapes(*named.values())
    except ValueError:
        shapes = " and ".join(f"{shape} of {name}" for name, shape in named.items())
        raise ValueError(f"linalgx.{function}: the batch axes {shapes} do not broadcast") from None


def _vectors_last(function: str, x1: ArrayLike, x2: ArrayLike, axis: int) -> tuple[jax.Array, jax.Array]:
    """The two arrays with the axis of the vectors moved to the end."""
    X1, X2 = promoted_arrays(function, x1=x1, x2=x2)
    return tuple(jnp.moveaxis(X, normalize_axis(function, "axis", axis, X.ndim), -1) for X in (X1, X2))  # type: ignore[return-value]


# --- the order of a chain of products


def _chain(arrays: Sequence[ArrayLike]) -> list[jax.Array]:
    """The arguments of multi_dot in their promoted dtype, a row and a column made matrices, their shapes checked."""
    if not isinstance(arrays, list | tuple):
        raise TypeError(f"linalgx.multi_dot: arrays must be a list or tuple of arrays, but {describe(arrays)} came")
    if len(arrays) < 2:
        raise ValueError(f"linalgx.multi_dot: arrays must be at least two, but {len(arrays)} came")
    chain = promoted_arrays("multi_dot", **{f"arrays[{i}]": x for i, x in enumerate(arrays)})
    chain[0] = chain[0][None, :] if chain[0].ndim == 1 else chain[0]
    chain[-1] = chain[-1][:, None] if chain[-1].ndim == 1 else chain[-1]
    for i, X in enumerate(chain):
        require_matrix("multi_dot", **{f"arrays[{i}]": X})
    for i, (X, Y) in enumerate(itertools.pairwise(chain)):
        if X.shape[-1] != Y.shape[-2]:
            raise ValueError(
                f"linalgx.multi_dot: arrays[{i}] has {X.shape[-1]} columns, but arrays[{i + 1}] has {Y.shape[-2]} rows"
            )
    _broadcast("multi_dot", **{f"arrays[{i}]": X.shape[:-2] for i, X in enumerate(chain)})
    return chain


def _cheapest_splits(shapes: Sequence[tuple[int, ...]]) -> dict[tuple[int, int], int]:
    """For every stretch i..j of the chain the k that parts it best, into i..k and k+1..j."""
    n = len(shapes)
    shapes = [tuple(map(extent, shape)) for shape in shapes]
    batches = functools.cache(lambda i, j: math.prod(np.broadcast_shapes(*(s[:-2] for s in shapes[i : j + 1]))))
    cost = {(i, i): 0 for i in range(n)}
    split = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            rows, columns = shapes[i][-2], shapes[j][-1]
            costs = [cost[i, k] + cost[k + 1, j] + batches(i, j) * rows * shapes[k][-1] * columns for k in range(i, j)]
            cost[i, j] = min(costs)
            split[i, j] = i + costs.index(cost[i, j])
    return split
