"""What must hold between the results of the functions, over shapes, dtypes, batches, layouts and kinds of matrices."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from tests.operations.case import DTYPES
from tests.operations.inputs import general

KINDS = ["random", "large", "small", "identity", "zero", "rank one", "repeated", "graded"]
LAYOUTS = ["leading axes", "vmap", "vmap over the last axis"]


def adjoint(X):
    return jnp.conj(jnp.swapaxes(X, -1, -2))


def size(X):
    """The Frobenius norm, of a matrix whose squares are in range."""
    return jnp.sqrt(jnp.sum(jnp.abs(X) ** 2, axis=(-2, -1)))


def eye(X):
    return jnp.broadcast_to(jnp.eye(X.shape[-1], dtype=X.dtype), (*X.shape[:-2], X.shape[-1], X.shape[-1]))


def scaled(X, s):
    """The columns of X times the numbers s."""
    return X * s[..., None, :].astype(X.dtype)


def positive(A):
    return A @ adjoint(A) + size(A)[..., None, None].astype(A.dtype) ** 2 * eye(A) + eye(A)


def regular(A):
    """A with the largest singular value added to a unitary matrix of its own: condition below three."""
    U, S, Vh = linalgx.svd(A, full_matrices=False)
    return A + 2 * scaled(U, jnp.maximum(S[..., :1], 1) * jnp.ones_like(S)) @ Vh


# An identity takes matrices A and B of the same shape and gives pairs: what should be zero, and what it is measured by.


def is_llh(A, B):
    A = positive(A)
    L, U = linalgx.cholesky(A), linalgx.cholesky(A, upper=True)
    return (L @ adjoint(L) - A, size(A)), (adjoint(U) @ U - A, size(A)), (jnp.triu(L, 1), size(L))


def is_plu(A, B):
    P, L, U = linalgx.lu(A)
    return (P @ L @ U - A, size(L) * size(U)), (jnp.tril(U, -1), size(U)), (P @ adjoint(P) - eye(P), size(P))


def is_ldl(A, B):
    A = regular(A)
    A = A + adjoint(A) + 8 * size(A)[..., None, None].astype(A.dtype) * eye(A)
    LD, pivots = linalgx.ldl_factor(A, hermitian=True)
    X = linalgx.ldl_solve(LD, pivots, A, hermitian=True)
    # such a matrix needs no interchange and no block
    L, d = jnp.tril(LD, -1) + eye(LD), linalgx.diagonal(LD)
    return (X - eye(A), jnp.sqrt(size(eye(A)))), (scaled(L, d) @ adjoint(L) - A, size(A))


def is_qr(A, B):
    Q, R = linalgx.qr(A)
    C, T = linalgx.qr(A, mode="complete")
    h, tau = linalgx.geqrf(A)
    k = tau.shape[-1]
    return (
        (Q @ R - A, size(A)),
        (adjoint(Q) @ Q - eye(Q), size(Q)),
        (C @ T - A, size(A)),
        (adjoint(C) @ C - eye(C), size(C)),
        (jnp.tril(R, -1), size(R)),
        (linalgx.householder_product(h[..., :k], tau) - Q, size(Q)),
        (linalgx.ormqr(h, tau, A, transpose=True) - T, size(A)),
    )


def is_usvh(A, B):
    U, S, Vh = linalgx.svd(A)
    k = S.shape[-1]
    order = jnp.diff(S, axis=-1)[..., None, :]
    return (
        (scaled(U[..., :k], S) @ Vh[..., :k, :] - A, size(A)),
        (adjoint(U) @ U - eye(U), size(U)),
        (Vh @ adjoint(Vh) - eye(Vh), size(Vh)),
        (jnp.maximum(order, 0), size(A)),
        (jnp.minimum(S, 0)[..., None, :], size(A)),
        ((S - linalgx.svdvals(A))[..., None, :], size(A)),
    )


def is_vlvh(A, B):
    A = A + adjoint(A)
    l, V = linalgx.eigh(A)
    U, S, Vh = linalgx.svd(A, hermitian=True)
    return (
        (scaled(V, l) @ adjoint(V) - A, size(A)),
        (adjoint(V) @ V - eye(V), size(V)),
        ((l - linalgx.eigvalsh(A))[..., None, :], size(A)),
        (scaled(U, S) @ Vh - A, size(A)),
        ((jnp.sum(l, axis=-1) - jnp.real(linalgx.trace(A)))[..., None, None], size(A)),
    )


def is_eigensystem(A, B):
    l, V = linalgx.eig(A)
    C = A.astype(V.dtype)
    trace = jnp.sum(l, axis=-1) - linalgx.trace(C)
    return (C @ V - scaled(V, l), size(A)), (trace[..., None, None], size(A))


def solves(A, B):
    A = regular(A)
    X, Y, Z = linalgx.solve(A, B), linalgx.solve(A, adjoint(B), left=False), linalgx.inv(A)
    W = linalgx.lu_solve(*linalgx.lu_factor(A), B, adjoint=True)
    return (
        (A @ X - B, size(A) * size(X)),
        (Y @ A - adjoint(B), size(A) * size(Y)),
        (adjoint(A) @ W - B, size(A) * size(W)),
        (A @ Z - eye(A), size(A) * size(Z)),
        (Z @ A - eye(A), size(A) * size(Z)),
    )


def solves_positive(A, B):
    A = positive(A)
    L = linalgx.cholesky(A)
    X, Y, Z = linalgx.cholesky_solve(B, L), linalgx.cholesky_inverse(L), linalgx.solve_triangular(L, B, upper=False)
    logarithm = linalgx.cholesky_logdet(L) - linalgx.slogdet(A).logabsdet
    return (
        (A @ X - B, size(A) * size(X)),
        (A @ Y - eye(A), size(A) * size(Y)),
        (L @ Z - B, size(L) * size(Z)),
        (logarithm[..., None, None], 1 + jnp.abs(linalgx.cholesky_logdet(L))),
    )


def is_penroses(A, B):
    X = linalgx.pinv(A)
    amplified = 1 + size(A) * size(X)
    return (
        (A @ X @ A - A, size(A) * amplified),
        (X @ A @ X - X, size(X) * amplified),
        (A @ X - adjoint(A @ X), amplified),
        (X @ A - adjoint(X @ A), amplified),
    )


def is_least(A, B):
    x, residuals, _, _ = linalgx.lstsq(A, B)
    R = B - A @ x
    normal = adjoint(A) @ R
    return (normal, size(A) * (size(A) * size(x) + size(B))), (
        (jnp.sum(jnp.abs(R) ** 2, axis=-2) - residuals)[..., None, :],
        (size(A) * size(x) + size(B)) ** 2,
    )


def is_multiplicative(A, B):
    n = A.shape[-1]
    scale = jnp.maximum(size(A), size(B))[..., None, None].astype(A.dtype)
    A, B = (X / jnp.where(scale == 0, 1, scale) for X in (A, B))
    difference = linalgx.det(A @ B) - linalgx.det(A) * linalgx.det(B)
    sign, logarithm = linalgx.slogdet(A)
    value = sign * jnp.exp(logarithm).astype(sign.dtype) - linalgx.det(A)
    bound = 2.0**n * jnp.ones_like(logarithm)
    return (difference[..., None, None], bound), (value[..., None, None], bound)


def is_inverse_exponential(A, B):
    A = A / jnp.maximum(size(A), 1)[..., None, None].astype(A.dtype)
    E, F = linalgx.matrix_exp(A), linalgx.matrix_exp(-A)
    twice = linalgx.matrix_exp(2 * A)
    return (E @ F - eye(A), size(E) * size(F)), (E @ E - twice, size(E) ** 2)


def is_power(A, B):
    A = A / jnp.maximum(size(A), 1)[..., None, None].astype(A.dtype)
    power = functools.partial(linalgx.matrix_power, A)
    return (power(5) - power(2) @ power(3), 1 + 0 * size(A)), (power(0) - eye(A), 1 + 0 * size(A))


MATRIX_ORDERS = ("fro", "nuc", 1, 2, jnp.inf)


def is_norm(A, B):
    pairs = []
    for order in MATRIX_ORDERS:
        norm = functools.partial(linalgx.matrix_norm, ord=order)
        a, b = norm(A), norm(B)
        excess = jnp.maximum(norm(A + B) - a - b, 0), norm(-3 * A) - 3 * a, jnp.minimum(a, 0), norm(0 * A)
        pairs += [(x[..., None, None], a + b) for x in excess]
        # the norm of a product
        pairs.append(
            (jnp.maximum(norm(A @ adjoint(B)) - a * norm(adjoint(B)), 0)[..., None, None], a * norm(adjoint(B)))
        )
    return tuple(pairs)


def is_norm_of_vectors(A, B):
    pairs = []
    for order in (1, 1.5, 2, 3, jnp.inf):
        norm = functools.partial(linalgx.vector_norm, axis=-1, ord=order)
        a, b = norm(A), norm(B)
        excess = jnp.maximum(norm(A + B) - a - b, 0), norm(2 * A) - 2 * a, norm(0 * A)
        pairs += [(x[..., None], size(A) + size(B)) for x in excess]
    # Hoelder
    inner = jnp.abs(linalgx.vecdot(A, B)) - linalgx.vector_norm(A, axis=-1) * linalgx.vector_norm(B, axis=-1)
    return (*pairs, (jnp.maximum(inner, 0)[..., None], size(A) * size(B)))


def is_condition(A, B):
    A = regular(A)
    inverse = linalgx.inv(A)
    pairs = []
    for order in MATRIX_ORDERS:
        product = linalgx.matrix_norm(A, ord=order) * linalgx.matrix_norm(inverse, ord=order)
        pairs.append(((linalgx.cond(A, order) - product)[..., None, None], product * A.shape[-1]))
    return tuple(pairs)


# identities of any matrices, and those of square ones
ANY = [is_plu, is_qr, is_usvh, is_penroses, is_least, is_norm, is_norm_of_vectors]
SQUARE = [is_llh, is_ldl, is_vlvh, is_eigensystem, solves, solves_positive, is_multiplicative, is_inverse_exponential]
SQUARE += [is_power, is_condition]


def _matrix(rng, kind: str, dtype: str, m: int, n: int) -> np.ndarray:
    X = general(rng, dtype, m, n)
    if kind in ("large", "small"):
        return (X * {"large": 2.0**12, "small": 2.0**-12}[kind]).astype(dtype)
    if kind == "identity":
        return np.eye(m, n, dtype=dtype)
    if kind == "zero":
        return np.zeros((m, n), dtype)
    if kind == "rank one":
        return X[:, :1] * X[:1, :]
    if kind == "repeated":
        return np.repeat(X[:, :1], n, axis=1)
    if kind == "graded":
        return (X * 2.0 ** -np.arange(n)).astype(dtype)
    return X


def _evaluate(layout: str, identity, arrays):
    if layout == "leading axes":
        return identity(*arrays)
    axis = 0 if layout == "vmap" else -1
    return jax.vmap(identity, in_axes=axis)(*(jnp.moveaxis(x, 0, axis) for x in arrays))


def _check(identity, dtype: str, shape: tuple[int, int], batch: int, layout: str, kinds) -> None:
    rng = np.random.default_rng([*shape, batch])
    pick = itertools.cycle(kinds)
    arrays = [jnp.asarray(np.stack([_matrix(rng, next(pick), dtype, *shape) for _ in range(batch)])) for _ in range(2)]
    pairs = jax.jit(functools.partial(_evaluate, layout, identity))(arrays)
    eps = float(jnp.finfo(dtype).eps)
    for i, (x, bound) in enumerate(pairs):
        x, bound = np.abs(np.asarray(x)), np.asarray(bound)
        limit = (64 * max(*shape, 1) * eps * bound).reshape(-1, *[1] * (x.ndim - 1)) + 1e-35
        assert np.all(x <= limit), f"{identity.__name__}[{i}]: {np.max(x / limit)}"


def _over_everything(identity, examples: int) -> None:
    small = st.integers(1, 6)
    shapes = (
        st.tuples(small, small) if identity in ANY else st.builds(lambda n: (n, n), st.sampled_from([1, 2, 3, 5, 8, 9]))
    )

    @hypothesis.settings(max_examples=examples, deadline=None, derandomize=True)
    @hypothesis.given(
        dtype=st.sampled_from(DTYPES),
        shape=shapes,
        batch=st.sampled_from([1, 3]),
        layout=st.sampled_from(LAYOUTS),
        kinds=st.permutations(KINDS),
    )
    def check(dtype, shape, batch, layout, kinds):
        _check(identity, dtype, shape, batch, layout, kinds)

    check()


IDENTITIES = pytest.mark.parametrize("identity", ANY + SQUARE, ids=lambda identity: identity.__name__)


@IDENTITIES
def test_identity(identity) -> None:
    _over_everything(identity, 2)


@pytest.mark.slow
@IDENTITIES
def test_identity_over_everything(identity) -> None:
    _over_everything(identity, 60)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@IDENTITIES
def test_identity_of_every_kind(identity, dtype: str) -> None:
    for shape in [(4, 4)] if identity in SQUARE else [(4, 4), (5, 2), (2, 5)]:
        _check(identity, dtype, shape, len(KINDS), "vmap", KINDS)
