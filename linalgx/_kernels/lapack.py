"""The general path: LAPACK on the CPU and cuSOLVER on the GPU, through jax.lax.linalg.

Every function takes matrices with any number of leading batch axes, the same for all arguments, and also empty
batches and matrices with no rows or columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import mlir
from jax.lax import linalg as lax_linalg
from jaxlib.lapack import prepare_lapack_call

from linalgx._core.batch_minor import extent
from linalgx._core.errors import nan_where, not_finite
from linalgx._core.loops import are_shared_out, many_threads
from linalgx._core.matrix import diagonal, largest_entry
from linalgx._core.primitive import is_for_one_device, new_primitive
from linalgx._kernels.exponents import power_of_two
from linalgx._kernels.interchanges import interchange

Function = Callable[..., Sequence[jax.Array]]

REDUCED_IN_BLOCKS = 256
"""The rows from which on a reduction to a tridiagonal matrix by itself saves time (measured)."""


def scaled(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A with its largest entry near 1, the power of two by which it was divided, and the flag of failed members.

    Where LAPACK scales by itself, from 1e12 in single precision, eigenvalues come out wrong, or NaN, through jax.lax;
    and for input that is not finite it makes some of the outputs finite.
    """
    # a maximum may lose a NaN on the CPU
    failed, unit = not_finite(A)[..., None, None], power_of_two(largest_entry(A))
    A = jnp.where(failed, 0, A * (1 / unit).astype(A.dtype))
    return A, unit[..., 0, 0], failed[..., 0, 0]


def restored(l: jax.Array, unit: jax.Array, failed: jax.Array) -> jax.Array:
    """The eigenvalues of A from those of what :func:`scaled` gives."""
    return jnp.where(failed[..., None], jnp.nan, l * unit[..., None].astype(l.dtype))


def _one_by_one_if_few(function: Function, A: jax.Array, *, least: int, share: int) -> Sequence[jax.Array]:
    """``function(A)``; on a GPU one after the other if the matrices are large, and fewer than rows / share.

    JAX gives most batches to cuBLAS, where one multiprocessor works on a matrix: 4 of 256 x 256 take as long there as
    64, and their QR decomposition 11 times what it takes one after the other.
    """
    batch, rows = A.shape[:-2], min(map(extent, A.shape[-2:]))
    few = rows >= least and 1 < math.prod(map(extent, batch)) < rows / share
    if not (many_threads.value and few) or are_shared_out([A]):
        return function(A)
    results = jax.lax.map(function, A.reshape(-1, *A.shape[-2:]))
    return [x.reshape(*batch, *x.shape[1:]) for x in results]


# LAPACK reads a matrix column by column. One that lies in memory row by row, as JAX's arrays do, is its transpose to
# LAPACK: a call that is written for the transposes takes and gives such matrices as they lie, without a copy.


def _on_one_cpu(name: str, by_jax: Function, by_lapack: Function) -> Function:
    """The function by JAX's primitives, but by our own call of LAPACK where the program runs on one CPU device.

    Of the custom calls in a program XLA shares out among devices those alone that JAX makes.
    """
    primitive = new_primitive(name, by_jax, multiple_results=True)

    def lower(ctx: mlir.LoweringRuleContext, *args: mlir.ir.Value, **options: Any) -> Any:
        function = by_lapack if is_for_one_device(ctx) else by_jax
        return mlir.lower_fun(function, multiple_results=True)(ctx, *args, **options)

    mlir.register_lowering(primitive, mlir.lower_fun(by_jax, multiple_results=True))
    mlir.register_lowering(primitive, lower, platform="cpu")
    return cast(Function, primitive.bind)


def _call(
    name: str,
    operands: Sequence[jax.Array],
    *outputs: jax.ShapeDtypeStruct,
    by_columns: Sequence[int] = (),
    **options: str,
) -> Sequence[jax.Array]:
    """What LAPACK's routine leaves in the place of the last operand, and its other ``outputs``.

    The operands with the numbers ``by_columns``, and the result in the place of one, lie in memory column by column.
    """
    last = len(operands) - 1
    in_place = jax.ShapeDtypeStruct(operands[last].shape, operands[last].dtype)
    # from the slowest axis to the fastest
    columns = [
        (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2) if i in by_columns else None for i, x in enumerate(operands)
    ]
    call = jax.ffi.ffi_call(
        prepare_lapack_call(name, in_place.dtype),
        (in_place, *outputs),
        input_layouts=columns,
        output_layouts=(columns[last], *[None] * len(outputs)),
        input_output_aliases={last: 0},
    )
    return call(*operands, **{key: np.uint8(ord(letter)) for key, letter in options.items()})


def _info(A: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(A.shape[:-2], jnp.int32)


def _potrf(A: jax.Array) -> Sequence[jax.Array]:
    # what LAPACK sees is A^T = U^H U, and U^T = L
    L, info = _call("potrf_ffi", [A], _info(A), uplo="U")
    return [nan_where(info != 0, L)]


# of JAX the primitive, not the function around it: that one cannot take a batch on an explicitly sharded mesh
_cholesky = _on_one_cpu("potrf", lambda A: [lax_linalg.cholesky_p.bind(A)], _potrf)


def cholesky(A: jax.Array) -> jax.Array:
    """L with A = L L^H, of Hermitian A; NaN in its lower triangle if A is not positive definite."""
    (L,) = _cholesky(A)
    return jnp.tril(L)


def _trsm(
    A: jax.Array, B: jax.Array, *, lower: bool, left: bool, transpose: str, unit_diagonal: bool, by_columns: bool
) -> Sequence[jax.Array]:
    if B.size == 0:
        return [B]
    # what LAPACK sees is X^T op(A)^T = B^T, with A^T in the place of A unless A lies by columns
    conjugate = by_columns and transpose == "H"
    seen = {"N": "T", "T": "N", "H": "N"} if by_columns else {"N": "N", "T": "T", "H": "C"}
    # not a transpose, which XLA may turn into a copy: the memory stays as it is
    B_seen = (jnp.conj(B) if conjugate else B).reshape(*B.shape[:-2], B.shape[-1], B.shape[-2])
    (X,) = _call(
        "trsm_ffi",
        [A, B_seen],
        by_columns=(0,) if by_columns else (),
        side="R" if left else "L",
        uplo="L" if lower == by_columns else "U",
        trans_x=seen[transpose],
        diag="U" if unit_diagonal else "N",
    )
    X = X.reshape(B.shape)
    return [jnp.conj(X) if conjugate else X]


def _triangular_solve(
    A: jax.Array, B: jax.Array, *, lower: bool, left: bool, transpose: str, unit_diagonal: bool, by_columns: bool
) -> Sequence[jax.Array]:
    X = lax_linalg.triangular_solve(
        A,
        B,
        left_side=left,
        lower=lower,
        transpose_a=transpose != "N",
        conjugate_a=transpose == "H",
        unit_diagonal=unit_diagonal,
    )
    return [X]


_solve_triangular = _on_one_cpu("trsm", _triangular_solve, _trsm)


def solve_triangular(
    A: jax.Array,
    B: jax.Array,
    *,
    lower: bool,
    left: bool = True,
    transpose: str = "N",
    unit_diagonal: bool = False,
    by_columns: bool = False,
) -> jax.Array:
    """X with op(A) X = B, or X op(A) = B, where op is none ("N"), the transpose ("T") or the adjoint ("H").

    A may lie in memory row by row, as B does, or ``by_columns``: that is faster where it is true.
    """
    options = {"lower": lower, "left": left, "transpose": transpose, "unit_diagonal": unit_diagonal}
    (X,) = _solve_triangular(A, B, by_columns=by_columns, **options)
    return X


def _getrf(A: jax.Array) -> Sequence[jax.Array]:
    from_one = jax.ShapeDtypeStruct((*A.shape[:-2], min(A.shape[-2:])), jnp.int32)
    LU, pivots, _ = _call("getrf_ffi", [A], from_one, _info(A), by_columns=(0,))
    return LU, pivots - 1


_lu_factor = _on_one_cpu("getrf", lambda A: lax_linalg.lu(A)[:2], _getrf)


def lu_factor(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """L and U in one matrix, lying column by column, and the row interchanges counted from 0, by partial pivoting."""
    LU, pivots = _one_by_one_if_few(_lu_factor, A, least=1024, share=32)
    if many_threads.value:
        # of which cuSOLVER makes finite factors
        LU = nan_where(jnp.any(jnp.isnan(A), axis=(-2, -1)), LU)
    return LU, pivots


def lu_solve(
    LU: jax.Array, pivots: jax.Array, B: jax.Array, *, left: bool, adjoint: bool, by_columns: bool = True
) -> jax.Array:
    """X with op(A) X = B (left) or X op(A) = B, where A = P L U and op(A) is A or A^H; NaN if U has a zero pivot.

    LU may lie in memory either way: column by column is how :func:`lu_factor` has just made it.
    """
    axis = -2 if left else -1
    failed = jnp.any(diagonal(LU) == 0, axis=-1)

    def solve(B: jax.Array, *, lower: bool) -> jax.Array:
        transpose = "H" if adjoint else "N"
        return solve_triangular(
            LU, B, lower=lower, left=left, transpose=transpose, unit_diagonal=lower, by_columns=by_columns
        )

    # NaN goes in, or comes out, where the rows are moved anyway
    if left != adjoint:
        B = nan_where(failed, interchange(pivots, B, axis=axis))
        return solve(solve(B, lower=True), lower=False)
    return nan_where(failed, interchange(pivots, solve(solve(B, lower=False), lower=True), back=True, axis=axis))


def geqrf(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Householder vectors, below the diagonal of a matrix that may hold anything above; R; and the factors tau.

    LAPACK multiplies with reciprocals, which are zero for the largest numbers where denormals are: A is scaled if it
    holds such a number, or is small as a whole, and else not: small columns beside large ones keep their digits.
    """
    largest = largest_entry(A)
    size = jnp.where(jnp.isfinite(largest), power_of_two(largest), 1)
    unit = size / jnp.clip(size, 2.0**-14, 2.0 ** (jnp.finfo(A.dtype).maxexp - 16))
    A = A * (1 / unit).astype(A.dtype)
    h, tau = _one_by_one_if_few(lambda A: jnp.linalg.qr(A, mode="raw"), A, least=256, share=8)
    h = jnp.swapaxes(h, -1, -2)
    return h, jnp.triu(h[..., : tau.shape[-1], :]) * unit.astype(A.dtype), tau


def householder_product(A: jax.Array, tau: jax.Array) -> jax.Array:
    """The first columns of the product of the reflections that :func:`geqrf` gives."""
    return lax_linalg.householder_product(A, tau)


def ormqr(A: jax.Array, tau: jax.Array, C: jax.Array, *, left: bool, adjoint: bool) -> jax.Array:
    """Q C, Q^H C, C Q or C Q^H with Q, square, from :func:`geqrf`."""
    return lax_linalg.ormqr(A, tau, C, left=left, transpose=adjoint)


def eigh(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ascending eigenvalues and the eigenvectors of Hermitian A."""
    V, eigenvalues = lax_linalg.eigh(A, symmetrize_input=False)
    return eigenvalues, V


def _syevd(A: jax.Array) -> Sequence[jax.Array]:
    # JAX gives syevd the least room, in which it reduces column by column; of a tridiagonal matrix it reduces nothing
    A = _tridiagonal(A) if extent(A.shape[-1]) >= REDUCED_IN_BLOCKS else A
    name = "heevd_ffi" if jnp.iscomplexobj(A) else "syevd_ffi"
    eigenvalues = jax.ShapeDtypeStruct(A.shape[:-1], jnp.finfo(A.dtype).dtype)
    _, l, info = _call(name, [A], eigenvalues, _info(A), mode="N", uplo="L")
    return [jnp.where((info == 0)[..., None], l, jnp.nan)]


def _tridiagonal(A: jax.Array) -> jax.Array:
    """A real tridiagonal matrix with the eigenvalues of Hermitian A, of which the upper triangle is written."""
    batch, n = A.shape[:-2], A.shape[-1]
    real = jnp.finfo(A.dtype).dtype
    shapes = [jax.ShapeDtypeStruct((*batch, m), dtype) for m, dtype in ((n, real), (n - 1, real), (n - 1, A.dtype))]
    name = "hetrd_ffi" if jnp.iscomplexobj(A) else "sytrd_ffi"
    _, d, e, *_ = _call(name, [A], *shapes, _info(A), uplo="L")
    ones = [jnp.broadcast_to(jnp.eye(n, k=k, dtype=d.dtype), A.shape) for k in (0, 1)]
    return d[..., None] * ones[0] + jnp.pad(e, [(0, 0)] * len(batch) + [(0, 1)])[..., None] * ones[1]


_eigvalsh = _on_one_cpu("syevd", lambda A: [eigh(A)[0]], _syevd)


def eigvalsh(A: jax.Array) -> jax.Array:
    """Ascending eigenvalues of Hermitian A."""
    (eigenvalues,) = _eigvalsh(A)
    return eigenvalues


def eig(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and right eigenvectors of unit length, both complex."""
    eigenvalues, V = lax_linalg.eig(A, compute_left_eigenvectors=False)
    return eigenvalues, V


def eigvals(A: jax.Array) -> jax.Array:
    """Eigenvalues, complex."""
    (eigenvalues,) = lax_linalg.eig(A, compute_left_eigenvectors=False, compute_right_eigenvectors=False)
    return eigenvalues


def svd(A: jax.Array, *, full_matrices: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U, descending singular values, and V^H."""
    U, S, Vh = lax_linalg.svd(A, full_matrices=full_matrices, compute_uv=True)
    return U, S, Vh


def svdvals(A: jax.Array) -> jax.Array:
    """Descending singular values."""
    return lax_linalg.svd(A, full_matrices=False, compute_uv=False)
