"""LDL: against LAPACK and torch on many pivot patterns, singular and bad members, derivatives through the factors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._kernels import bunch_kaufman
from tests.operations.case import assert_close, tolerance
from tests.operations.inputs import general
from tests.operations.ldl import factor, indefinite, solve

FIELDS = [("float64", False), ("complex128", False), ("complex128", True)]
fields = pytest.mark.parametrize(("dtype", "hermitian"), FIELDS)


def _star(X, hermitian):
    return np.conj(np.swapaxes(X, -1, -2)) if hermitian else np.swapaxes(X, -1, -2)


def _random(rng, dtype, n, hermitian, diagonal):
    """Off-diagonal entries of size 1, so that the size of the diagonal decides the kind of the pivots."""
    X = general(rng, dtype, n, n)
    X = X + _star(X, hermitian)
    return X * np.where(np.eye(n, dtype=bool), diagonal, 1)


def _explicit(LD, pivots, hermitian):
    """The permutation as a vector, L and D."""
    rows, _, permutation, _, paired = map(np.asarray, bunch_kaufman.structure(pivots))
    L, n = np.tril(np.take_along_axis(np.asarray(LD), rows, 0), -1), len(rows)
    D = np.diag(np.diag(LD)).astype(L.dtype)
    for j in np.flatnonzero(paired):
        D[j + 1, j], L[j + 1, j] = LD[j + 1, j], 0
        D[j, j + 1] = np.conj(LD[j + 1, j]) if hermitian else LD[j + 1, j]
    return permutation, L + np.eye(n), D


@fields
@pytest.mark.parametrize("diagonal", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("n", [2, 3, 7, 70])
def test_the_packed_form_is_that_of_lapack(n, diagonal, dtype, hermitian, rng) -> None:
    members = np.stack([_random(rng, dtype, n, hermitian, diagonal) for _ in range(3)])
    LD, pivots, info = linalgx.ldl_factor_ex(members, hermitian=hermitian)
    for A, ours, steps, failed in zip(members, LD, pivots, info, strict=True):
        theirs, expected, expected_info = factor(A, hermitian)
        np.testing.assert_array_equal(steps, expected)
        assert failed == expected_info
        assert_close(ours, theirs, tolerance(dtype, n, 10))
        p, L, D = _explicit(ours, steps, hermitian)
        assert_close(L @ D @ _star(L, hermitian), A[p][:, p], tolerance(dtype, n, 10))


@fields
def test_factor_and_solution_are_those_of_torch(dtype, hermitian, rng) -> None:
    torch = pytest.importorskip("torch")
    A = np.stack([_random(rng, dtype, 6, hermitian, d) for d in (0.0, 1.0, 5.0)])
    b = general(rng, dtype, 3, 6, 2)
    ours = linalgx.ldl_factor(A, hermitian=hermitian)
    theirs = torch.linalg.ldl_factor(torch.as_tensor(A), hermitian=hermitian)
    np.testing.assert_array_equal(ours.pivots, theirs.pivots.numpy())
    assert ours.pivots.dtype == jnp.int32
    assert_close(ours.LD, theirs.LD.numpy(), tolerance(dtype, 6, 10))
    solution = torch.linalg.ldl_solve(theirs.LD, theirs.pivots, torch.as_tensor(b), hermitian=hermitian)
    assert_close(linalgx.ldl_solve(*ours, b, hermitian=hermitian), solution.numpy(), tolerance(dtype, 6, 100))


def test_members_of_a_batch_take_different_steps(rng) -> None:
    patterns = np.stack([_random(rng, "float32", 5, False, d) for d in (0.0, 0.2, 0.5, 1.0, 2.0, 9.0)])
    LD, pivots = jax.vmap(linalgx.ldl_factor)(patterns)
    assert len({tuple(p) for p in np.asarray(pivots).tolist()}) > 3
    for A, ours, steps in zip(patterns, LD, pivots, strict=True):
        theirs, expected, _ = factor(A)
        np.testing.assert_array_equal(steps, expected)
        assert_close(ours, theirs, tolerance("float32", 5, 10))


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e150])
def test_scale(scale, rng) -> None:
    A = indefinite(rng, "complex128", hermitian=True)
    LD, pivots = linalgx.ldl_factor(A * scale, hermitian=True)
    np.testing.assert_array_equal(pivots, factor(A, hermitian=True)[1])
    p, L, D = _explicit(LD, pivots, hermitian=True)
    assert_close(L @ (D / scale) @ L.conj().T, A[p][:, p], tolerance("complex128", 5, 10))
    b = general(rng, "complex128", 5, 1)
    assert_close(
        linalgx.ldl_solve(LD, pivots, b, hermitian=True) * scale, np.linalg.solve(A, b), tolerance("complex128", 5, 100)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_matrices_are_factored_and_reported(dtype) -> None:
    rank_one = np.outer([1, 2, 4], [1, 2, 4])
    A = np.stack([np.zeros((3, 3)), np.diag([0, 0, 1]), rank_one, np.diag([1, 2, 3])]).astype(dtype)
    LD, pivots, info = linalgx.ldl_factor_ex(A)
    assert bool(jnp.all(jnp.isfinite(LD)))
    for i in range(4):
        theirs, expected, expected_info = factor(A[i])
        assert_close(LD[i], theirs, tolerance(dtype, 3))
        np.testing.assert_array_equal(pivots[i], expected)
        assert info[i] == expected_info
    x = linalgx.ldl_solve(LD, pivots, jnp.ones((4, 3, 1), dtype))
    assert not bool(jnp.any(jnp.isfinite(x[0])))
    assert_close(x[3], 1 / np.array([[1], [2], [3]], dtype), tolerance(dtype, 3))


@fields
def test_a_bad_member_spoils_only_itself(dtype, hermitian, rng) -> None:
    good = indefinite(rng, dtype, hermitian)
    bad = good.copy()
    bad[3, 1] = np.nan
    A = jnp.asarray(np.stack([good, bad, np.zeros_like(good), good]))
    LD, _, info = linalgx.ldl_factor_ex(A, hermitian=hermitian)
    assert bool(jnp.all(jnp.isnan(LD[1][np.tril_indices(5)])))
    assert int(info[0]) == 0
    assert int(info[1]) > 0
    assert int(info[2]) == 1

    def f(A):
        LD, _ = linalgx.ldl_factor(A, hermitian=hermitian)
        return jnp.sum(jnp.abs(LD) ** 2)

    gradient = jax.grad(f)(A)
    assert bool(jnp.any(jnp.isnan(gradient[1])))
    expected = jax.grad(f)(A[0])
    for i in (0, 3):
        assert_close(gradient[i], expected, tolerance(dtype, 5))


@fields
def test_gradient_through_factor_and_solution_is_that_of_solve(dtype, hermitian, rng) -> None:
    A = jnp.asarray(np.stack([_random(rng, dtype, 4, hermitian, d) for d in (0.1, 1.0, 5.0)]))
    b, w = jnp.asarray(general(rng, dtype, 3, 4, 2)), jnp.asarray(general(rng, dtype, 3, 4, 2))

    def ours(A, b):
        x = linalgx.ldl_solve(*linalgx.ldl_factor(A, hermitian=hermitian), b, hermitian=hermitian)
        return jnp.sum(jnp.real(w * x))

    def theirs(A, b):
        strict = jnp.tril(A, -1)
        d = jnp.diagonal(A, axis1=-2, axis2=-1)
        d = jnp.real(d).astype(d.dtype) if hermitian else d
        other = jnp.conj(strict) if hermitian else strict
        full = strict + jnp.swapaxes(other, -1, -2) + d[..., None] * jnp.eye(4, dtype=d.dtype)[None]
        return jnp.sum(jnp.real(w * jnp.linalg.solve(full, b)))

    for x, y in zip(jax.grad(ours, (0, 1))(A, b), jax.grad(theirs, (0, 1))(A, b), strict=True):
        assert_close(x, y, tolerance(dtype, 4, 1000))


@fields
def test_the_factors_move_so_that_their_product_is_the_matrix(dtype, hermitian, rng) -> None:
    A = indefinite(rng, dtype, hermitian)
    dA = general(rng, dtype, 5, 5)
    (LD, pivots), (dLD, _) = jax.jvp(lambda A: linalgx.ldl_factor(A, hermitian=hermitian), (A,), (dA,))
    p, L, D = _explicit(LD, pivots, hermitian)
    _, dL, dD = _explicit(dLD, pivots, hermitian)
    dL = dL - np.eye(5)
    star = _star(L, hermitian)
    product = dL @ D @ star + L @ dD @ star + L @ D @ _star(dL, hermitian)
    d = np.diag(np.diag(dA).real if hermitian else np.diag(dA))
    read = np.tril(dA, -1) + _star(np.tril(dA, -1), hermitian) + d
    assert_close(product, read[p][:, p], tolerance(dtype, 5, 100))


@pytest.mark.parametrize(("dtype", "tiny"), [("float32", 1e-19), ("float64", 1e-154)])
def test_a_zero_is_no_pivot_where_the_comparison_underflows(dtype, tiny) -> None:
    A = np.array([[0, tiny, 0], [tiny, 0.5, 1], [0, 1, 0.5]], dtype)
    LD, pivots, info = linalgx.ldl_factor_ex(jnp.asarray(A))
    assert int(info) == 0
    assert pivots.tolist() == [-2, -2, 3]
    np.testing.assert_allclose([LD[2, 0] * tiny, LD[2, 1], LD[2, 2]], [1, 0, 0.5], rtol=1e-6)


def test_right_hand_sides_broadcast(rng) -> None:
    A = indefinite(rng, "float64")
    LD, pivots = linalgx.ldl_factor(A)
    b = general(rng, "float64", 2, 3, 5, 2)
    x = linalgx.ldl_solve(LD, pivots, b)
    assert_close(x, np.linalg.solve(A, b), tolerance("float64", 5, 100))
    batched = linalgx.ldl_solve(jnp.stack([LD, LD]), jnp.stack([pivots, pivots]), b[0, :1])
    assert_close(batched[1], solve(np.asarray(LD), np.asarray(pivots), b[0, 0]), tolerance("float64", 5, 100))


def test_half_precision_is_computed_in_single(rng) -> None:
    A = indefinite(rng, "float32")
    LD, pivots = linalgx.ldl_factor(jnp.asarray(A, jnp.bfloat16))
    assert LD.dtype == jnp.bfloat16
    assert pivots.dtype == jnp.int32
