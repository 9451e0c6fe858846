"""Pseudoinverses and least squares at deficient rank, with truncation, at repeated singular values and any scale."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import linalgx
from linalgx.least_squares import _least_norm, _least_squares, _size_of_error, inverse_factors_p
from tests.families.differences import assert_derivative
from tests.operations.case import assert_close, tolerance
from tests.operations.inputs import general, unitary, well_conditioned, with_eigenvalues, with_singular_values

both_fields = pytest.mark.parametrize("dtype", ["float64", "complex128"])


def _H(x):
    return x.conj().swapaxes(-1, -2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("values", [(3, 2, 1), (2, 2, 2), (2, 1, 0), (1, 0, 0), (0, 0, 0)], ids=str)
@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 4)], ids=str)
def test_the_four_equations(shape, values, dtype, rng):
    a = with_singular_values(rng, dtype, *shape, values)
    p = np.asarray(linalgx.pinv(jnp.asarray(a)))
    close = lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance(dtype, 5, 10))
    close(a @ p @ a, a)
    close(p @ a @ p, p)
    close(a @ p, _H(a @ p))
    close(p @ a, _H(p @ a))


def test_tolerances_of_torch(rng):
    torch = pytest.importorskip("torch")
    a = with_singular_values(rng, "float64", 4, 3, (4, 1, 0.25))
    tall = np.stack([a, 10 * a])
    settings = [
        {"rtol": 0.1},
        {"atol": 0.5},
        {"atol": 0.0},
        {"atol": 0.5, "rtol": 0.5},
        {"atol": 1e-300},
        {"rtol": 2.0},
    ]
    settings += [{"rtol": np.array([0.1, 0.5])}, {"atol": np.array([0.5, 0.0])}, {"rtol": -1.0}]
    for setting in settings:
        theirs = torch.linalg.pinv(
            torch.tensor(tall), **{k: torch.tensor(v, dtype=torch.float64) for k, v in setting.items()}
        )
        assert_close(linalgx.pinv(jnp.asarray(tall), **setting), theirs.numpy(), tolerance("float64", 4, 100))


def test_a_singular_value_at_the_tolerance_is_dropped():
    a = jnp.diag(jnp.array([4.0, 2.0, 1.0]))
    np.testing.assert_allclose(jnp.diagonal(linalgx.pinv(a, rtol=0.5)), [0.25, 0, 0])
    np.testing.assert_allclose(jnp.diagonal(linalgx.pinv(a, atol=1.0)), [0.25, 0.5, 0])
    assert linalgx.lstsq(a, jnp.ones(3), 0.5).rank == 1


TRUNCATED = [(3, 1, 0.3), (3, 0.6, 0.3), (2, 2, 0.3), (2, 0.3, 0.3), (1, 1, 0)]


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 3), "float64"), ((5, 3), "complex128"), ((3, 4), "complex128")], ids=str
)
@pytest.mark.parametrize("values", TRUNCATED, ids=str)
def test_derivatives_of_the_truncated_functions(values, shape, dtype, rng):
    a = with_singular_values(rng, dtype, *shape, values)
    if values[-1] == 0:
        # leave the dropped singular value away from its kink: the truncated function does not see it
        a = a + 1e-3 * with_singular_values(rng, dtype, *shape, (1, 1, 1))
    assert_derivative(lambda x: linalgx.pinv(x, 0.4), lambda x: np.linalg.pinv(x, 0.4), a, rng, rtol=1e-8)
    b = general(rng, dtype, shape[0], 2)
    ours = lambda x: linalgx.lstsq(x, jnp.asarray(b), 0.4).solution
    assert_derivative(ours, lambda x: np.linalg.lstsq(x, b, rcond=0.4)[0], a, rng, rtol=1e-8)


@both_fields
@pytest.mark.parametrize("values", [(2, -2, 1, 0.5), (3, 2, -0.5, 0.5), (2, 2, -1, -1)], ids=str)
@pytest.mark.parametrize("rtol", [None, 0.3])
def test_derivative_of_the_hermitian_pinv(rtol, values, dtype, rng):
    a = with_eigenvalues(rng, dtype, values)
    ours = lambda x: linalgx.pinv(x, rtol, hermitian=True)
    theirs = lambda x: np.linalg.pinv((x + _H(x)) / 2, rtol or 1e-12)
    assert_derivative(ours, theirs, a, rng, rtol=1e-8)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((4, 4), "float64"), ((5, 4), "complex128"), ((4, 5), "complex128")], ids=str
)
def test_derivatives_at_constant_deficient_rank(shape, dtype, rng):
    factor, mixed = general(rng, dtype, shape[0], 2), general(rng, dtype, *shape)
    b = general(rng, dtype, shape[0], 2)
    path = lambda x: x @ (x.T @ mixed)  # of rank 2, the ranges of A and A^H moving
    assert_derivative(lambda x: linalgx.pinv(path(x)), lambda x: np.linalg.pinv(path(x)), factor, rng, rtol=1e-7)
    ours = lambda x: linalgx.lstsq(path(x), jnp.asarray(b)).solution
    theirs = lambda x: np.linalg.lstsq(path(x), b, rcond=1e-12)[0]
    assert_derivative(ours, theirs, factor, rng, rtol=1e-7)


@pytest.mark.parametrize(("shape", "dtype"), [((5, 3), "complex128"), ((3, 5), "float64")], ids=str)
def test_first_and_second_derivative_at_orthonormal_columns(shape, dtype, rng):
    """jax.numpy gives NaN for the first."""
    m, n = shape
    a = unitary(rng, dtype, max(m, n), min(m, n))
    a = a if m >= n else _H(a)
    b = general(rng, dtype, m)
    direction = jnp.asarray(general(rng, dtype, m, n))
    solve = lambda x: linalgx.lstsq(x, jnp.asarray(b)).solution
    by_numpy = lambda x: np.linalg.lstsq(x, b, rcond=1e-12)[0]
    assert_derivative(solve, by_numpy, a, rng)
    first = jax.jit(lambda x: jax.jvp(solve, (x,), (direction,))[1])
    assert_derivative(first, first, a, rng)
    inverse = jax.jit(lambda x: jax.jvp(linalgx.pinv, (x,), (direction,))[1])
    assert_derivative(inverse, inverse, a, rng)


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e150])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5)], ids=str)
def test_any_scale(shape, scale, rng):
    _assert_scales(jnp.asarray(well_conditioned(rng, "float64", *shape)), scale, rng)


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_any_scale_in_single_precision(scale, rng):
    _assert_scales(jnp.asarray(well_conditioned(rng, "float32", 5, 3)), scale, rng)


def _assert_scales(a, scale, rng):
    """A and b scaled alike: x stays, its derivative with respect to A scales as 1/scale, as does that of A^+ scale."""
    dtype = a.dtype
    b = jnp.asarray(general(rng, str(dtype), a.shape[0], 2))
    weights = jnp.asarray(general(rng, str(dtype), a.shape[1], 2))

    def gradients(factor):
        solution = lambda a, b: jnp.sum(weights * linalgx.lstsq(a, b).solution)
        inverse = lambda a: jnp.sum(weights[:, :1] * (linalgx.pinv(a) * factor))
        by_a, by_b = jax.grad(solution, argnums=(0, 1))(a * factor, b * factor)
        return by_a * factor, by_b * factor, jax.grad(inverse)(a * factor) * factor

    assert_close(gradients(scale), gradients(1.0), tolerance(dtype, 5, 10))


def test_a_matrix_that_is_not_finite_spoils_only_itself(rng):
    a, b = general(rng, "float64", 3, 4, 2), general(rng, "float64", 3, 4, 2)
    a[1, 0, 0], b[2, 0, 1] = np.nan, np.nan
    x, residuals, rank, s = linalgx.lstsq(jnp.asarray(a), jnp.asarray(b))
    assert np.isnan(x[1]).all()
    assert np.isnan(residuals[1]).all()
    assert np.isnan(s[1]).all()
    assert np.isnan(x[2, :, 1]).all()
    np.testing.assert_array_equal(rank, [2, 0, 2])
    assert np.isfinite(x[0]).all()
    assert np.isfinite(x[2, :, 0]).all()
    p = linalgx.pinv(jnp.asarray(a))
    gradient = jax.grad(lambda a: jnp.sum(linalgx.pinv(a)))(jnp.asarray(a))
    for result in (p, gradient):
        assert np.isnan(result[1]).all()
        assert np.isfinite(result[::2]).all()


def test_batches_broadcast(rng):
    a, b = general(rng, "float64", 3, 1, 4, 2), general(rng, "float64", 5, 4, 2)
    x, residuals, rank, s = linalgx.lstsq(jnp.asarray(a), jnp.asarray(b))
    assert (x.shape, residuals.shape, rank.shape, s.shape) == ((3, 5, 2, 2), (3, 5, 2), (3, 1), (3, 1, 2))
    np.testing.assert_allclose(x[2, 4], np.linalg.lstsq(a[2, 0], b[4])[0], atol=tolerance("float64", 4, 100))
    vector = linalgx.lstsq(jnp.asarray(a), jnp.asarray(b[0, :, 0]))
    assert (vector.solution.shape, vector.residuals.shape) == ((3, 1, 2), (3, 1, 1))
    np.testing.assert_allclose(vector.solution[1, 0], x[1, 0, :, 0], atol=tolerance("float64", 4, 100))


@both_fields
def test_gradient_of_the_residuals(dtype, rng):
    """By Danskin's theorem x may be held fixed: -2 r x^H for A and 2 r for b."""
    a, b = general(rng, dtype, 5, 3), general(rng, dtype, 5, 1)
    f = lambda a, b: jnp.sum(linalgx.lstsq(a, b).residuals)
    by_a, by_b = jax.grad(f, argnums=(0, 1))(jnp.asarray(a), jnp.asarray(b))
    x = np.linalg.lstsq(a, b)[0]
    r = b - a @ x
    np.testing.assert_allclose(jnp.conj(by_a), -2 * r @ _H(x), atol=tolerance(dtype, 5, 100))
    np.testing.assert_allclose(jnp.conj(by_b), 2 * r, atol=tolerance(dtype, 5, 100))


def test_the_solution_is_linear_in_b(rng):
    a, b = jnp.asarray(general(rng, "complex128", 5, 3)), jnp.asarray(general(rng, "complex128", 5, 2))
    cotangent = jnp.asarray(general(rng, "complex128", 3, 2))
    (transposed,) = jax.linear_transpose(lambda b: linalgx.lstsq(a, b).solution, b)(cotangent)
    np.testing.assert_allclose(transposed, np.linalg.pinv(a).T @ cotangent, atol=tolerance("float64", 5, 100))


def test_hilbert_matrix_to_high_precision():
    import mpmath

    a = 1 / (np.arange(6)[:, None] + np.arange(4)[None, :] + 1.0)
    b = np.arange(6) + 1.0
    with mpmath.workdps(60):
        A = mpmath.matrix(a.tolist())
        exact = np.array(((A.T * A) ** -1 * A.T * mpmath.matrix(b.tolist())).tolist(), float)[:, 0]
    x = linalgx.lstsq(jnp.asarray(a), jnp.asarray(b)).solution
    np.testing.assert_allclose(x, exact, rtol=tolerance("float64", 6, np.linalg.cond(a)))


@pytest.mark.parametrize(("shape", "dtype"), [((5, 3), "float64"), ((3, 5), "complex128")], ids=str)
def test_gradients_of_torch(shape, dtype, rng):
    torch = pytest.importorskip("torch")
    a, b = with_singular_values(rng, dtype, *shape, (2, 2, 1)), general(rng, dtype, shape[0], 2)
    weights, inverse_weights = general(rng, dtype, shape[1], 2), general(rng, dtype, shape[1], shape[0])
    A, B = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    solution = torch.linalg.lstsq(A, B).solution
    loss = (torch.tensor(weights) * solution).sum().real
    (loss + (torch.tensor(inverse_weights) * torch.linalg.pinv(A)).sum().real).backward()

    def f(a, b):
        solution = jnp.sum(jnp.real(weights * linalgx.lstsq(a, b).solution))
        return solution + jnp.sum(jnp.real(inverse_weights * linalgx.pinv(a)))

    by_a, by_b = jax.grad(f, argnums=(0, 1))(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(jnp.conj(by_a), A.grad.numpy(), atol=tolerance("float64", 5, 100))
    np.testing.assert_allclose(jnp.conj(by_b), B.grad.numpy(), atol=tolerance("float64", 5, 100))


# --- without a singular value decomposition, for matrices of full rank beyond doubt, larger than the small ones

SHAPES = pytest.mark.parametrize("shape", [(12, 9), (9, 12), (10, 10), (30, 3)], ids=str)


def _source(a) -> str:
    """Which decomposition the factors come from; only those from Cholesky's are of the normal equations."""
    _, f, W, _ = inverse_factors_p(jnp.asarray(a), for_few=True)
    if jnp.all(f < 0):
        return "Cholesky"
    # those of Householder are of a triangle
    return "Householder" if jnp.all(jnp.triu(W, 1) == 0) else "svd"


def test_a_large_matrix_in_single_precision_needs_no_householder(rng):
    """The bound on its condition does not grow with its order: of Frobenius norms alone it would, too fast."""
    assert _source(general(rng, "float32", 4096, 1024)) == "Cholesky"


def _spectrum(shape, dtype, smallest):
    """Singular values from 1 down to ``smallest`` times the tolerance of the rank."""
    return np.geomspace(1, smallest * max(shape) * float(jnp.finfo(dtype).eps), min(shape))


@SHAPES
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize(("smallest", "rank_lost"), [(1e4, 0), (3, 0), (0.3, 1), (0, 1)])
def test_rank_and_solution_near_the_tolerance(smallest, rank_lost, shape, dtype, rng):
    k = min(shape)
    values = _spectrum(shape, dtype, smallest) if smallest else np.append(np.geomspace(1, 0.1, k - 1), 0)
    a, x = with_singular_values(rng, dtype, *shape, values), general(rng, dtype, shape[1], 2)
    ours = linalgx.lstsq(jnp.asarray(a), jnp.asarray(a @ x))
    assert int(ours.rank) == k - rank_lost
    if smallest != 1e4:
        assert _source(a) == "svd"
    # the solution is right where the system sees it: the residual is that of a backward stable method
    np.testing.assert_allclose(a @ np.asarray(ours.solution), a @ x, atol=tolerance(dtype, k, 10 * np.abs(x).max()))
    p = np.asarray(linalgx.pinv(jnp.asarray(a)))
    scale = np.abs(p).max()
    np.testing.assert_allclose(p @ a @ p / scale, p / scale, atol=tolerance(dtype, k, 10 / values[k - rank_lost - 1]))


CONDITIONS = {
    "float32": {"Cholesky": 300, "Householder": 2e3},
    "float64": {"Cholesky": 1e6, "Householder": 1e9},
}
SOURCES = pytest.mark.parametrize("source", ["Cholesky", "Householder"])
# one right-hand side of 16 unknowns is a case of few
COLUMNS = (1, 3)


def _many_digits(A):
    """The pseudoinverse of a matrix of full rank, in the digits that mpmath works with."""
    return (A.H * A) ** -1 * A.H if A.rows >= A.cols else A.H * (A * A.H) ** -1


def _as_array(A):
    return np.array(A.tolist(), dtype=complex)


@pytest.mark.parametrize("shape", [(24, 17), (17, 24), (16, 16), (30, 3)], ids=str)
@SOURCES
# complex64 is as float32 in its precision and as complex128 in its arithmetic
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", pytest.param("complex64", marks=pytest.mark.slow), "complex128"]
)
def test_against_many_digits_where_the_condition_is_large(dtype, source, shape, rng):
    condition = CONDITIONS[jnp.finfo(dtype).dtype.name][source]
    m, n = shape
    a = with_singular_values(rng, dtype, m, n, np.geomspace(1, 1 / condition, min(shape)))
    assert _source(a) == source
    with mpmath.workdps(50):
        inverse = _many_digits(mpmath.matrix(a.tolist()))
    size = np.linalg.norm(_as_array(inverse), 2)
    error = np.linalg.norm(np.asarray(linalgx.pinv(jnp.asarray(a))) - _as_array(inverse), 2) / size
    # one condition number, not its square
    assert error < tolerance(dtype, max(shape), condition)
    for columns in COLUMNS:
        b = (a @ general(rng, dtype, n, columns) + 0.01 * general(rng, dtype, m, columns)).astype(dtype)
        with mpmath.workdps(50):
            solution = _as_array(inverse * mpmath.matrix(b.tolist()))
        # of a solution the square, but only together with the residual (Golub and Van Loan, section 5.3)
        residual = np.linalg.norm(b - a @ solution)
        bound = condition * np.linalg.norm(solution) + size * np.linalg.norm(b) + size * condition * residual
        error = np.linalg.norm(np.asarray(linalgx.lstsq(jnp.asarray(a), jnp.asarray(b)).solution) - solution)
        assert error < tolerance(dtype, max(shape), bound)


@SOURCES
@both_fields
@pytest.mark.parametrize("shape", [(24, 17), (17, 24)], ids=str)
def test_derivatives_against_many_digits(shape, dtype, source, rng):
    condition = {"Cholesky": 3, "Householder": 1e7}[source]
    a = with_singular_values(rng, dtype, *shape, np.geomspace(1, 1 / condition, min(shape)))
    da, b = general(rng, dtype, *shape), general(rng, dtype, shape[0], max(COLUMNS))
    assert _source(a) == source
    with mpmath.workdps(60):
        A, dA, t = mpmath.matrix(a.tolist()), mpmath.matrix(da.tolist()), mpmath.mpf(10) ** -30
        slope = (_many_digits(A + t * dA) - _many_digits(A - t * dA)) / (2 * t)
        exact = [_as_array(X) for X in (slope, slope * mpmath.matrix(b.tolist()))]
    solutions = lambda a: [linalgx.lstsq(a, jnp.asarray(b[:, :k])).solution for k in COLUMNS]
    _, (slope, *slopes) = jax.jvp(lambda a: (linalgx.pinv(a), *solutions(a)), (jnp.asarray(a),), (jnp.asarray(da),))
    # the derivative of the pseudoinverse is bounded by the square of its norm; eps times the condition is lost
    bound = tolerance(dtype, 12, condition) * condition**2
    assert np.linalg.norm(np.asarray(slope) - exact[0]) < bound
    for k, x in zip(COLUMNS, slopes, strict=True):
        assert np.linalg.norm(np.asarray(x) - exact[1][:, :k]) < bound * np.linalg.norm(b)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
@pytest.mark.parametrize("shape", [(24, 17), (17, 24)], ids=str)
def test_full_rank_at_any_scale(shape, scale, rng):
    a, b = well_conditioned(rng, "float32", *shape), general(rng, "float32", shape[0], 1)
    scaled = jnp.asarray(a) * np.float32(scale)
    assert _source(scaled) == "Cholesky"
    exact = np.linalg.pinv(a.astype("float64"))
    assert_close(linalgx.pinv(scaled) * np.float32(scale), exact, tolerance("float32", 12, 10))
    solution = linalgx.lstsq(scaled, jnp.asarray(b) * np.float32(scale)).solution
    assert_close(solution, exact @ b, tolerance("float32", 12, 10))


@pytest.mark.parametrize("scales", [(1e-15, 1e-25), (1e8, 1e31), (1e-15, 1e10), (1e8, 1e-25)], ids=str)
@pytest.mark.parametrize("shape", [(24, 17), (17, 24)], ids=str)
def test_right_hand_sides_at_any_scale(shape, scales, rng):
    a, b = (
        np.float32(scale) * general(rng, "float32", *s) for scale, s in zip(scales, (shape, (shape[0], 1)), strict=True)
    )
    exact = np.linalg.lstsq(a.astype("float64"), b.astype("float64"))[0]
    assert_close(linalgx.lstsq(jnp.asarray(a), jnp.asarray(b)).solution, exact, tolerance("float32", 24, 10))


def test_many_more_rows_than_columns(rng):
    # sums of so many terms in float32 lose digits
    a = 1 + 0.1 * general(rng, "float32", 20_000, 10)
    x = general(rng, "float32", 10, 1)
    b = a @ x + general(rng, "float32", len(a), 1)
    assert _source(a) == "Cholesky"
    exact = np.linalg.lstsq(a.astype("float64"), b.astype("float64"))[0]
    ours = np.asarray(linalgx.lstsq(jnp.asarray(a), jnp.asarray(b)).solution)
    theirs = scipy.linalg.lstsq(a, b)[0]
    assert np.linalg.norm(ours - exact) < 4 * np.linalg.norm(theirs - exact)


def test_rank_of_many_rows():
    # the tolerance is 0.012, where the normal equations are precise
    a = jnp.stack([jnp.ones(100_000, "float32"), 0.005 * jnp.resize(jnp.array([1.0, -1.0], "float32"), 100_000)], 1)
    for scale in (1e-30, 1e-13, 1, 1e30):
        assert linalgx.lstsq(np.float32(scale) * a, a[:, :1]).rank == 1
        assert linalgx.lstsq(np.float32(scale) * a * jnp.array([[1.0, 3.0]], "float32"), a[:, :1]).rank == 2


def test_the_error_of_cholesky_is_corrected_twice(rng):
    # where the normal equations are just precise enough; the second term of the correction is worth a factor of eight
    a = np.stack([with_singular_values(rng, "float64", 150, 60, np.geomspace(1, 1e-6, 60)) for _ in range(4)])
    assert _source(a) == "Cholesky"
    exact = np.linalg.pinv(a)
    norms = lambda x: np.linalg.norm(x, 2, (1, 2))
    errors = norms(np.asarray(linalgx.pinv(jnp.asarray(a))) - exact) / norms(exact)
    assert errors.max() < 1e6 * float(jnp.finfo("float64").eps)


def test_two_steps_of_refinement(rng):
    U, B = general(rng, "float64", 12, 5), general(rng, "float64", 12, 1)
    W = np.linalg.inv(np.linalg.cholesky(U.T @ U)) * (1 + 1e-2 * general(rng, "float64", 5, 5))
    # each step multiplies the error by that of the first
    X = _least_squares(jnp.asarray(U), jnp.asarray(W), jnp.asarray(B))
    np.testing.assert_allclose(X, np.linalg.lstsq(U, B)[0], atol=1e-5)
    Y = _least_norm(jnp.asarray(U), jnp.asarray(W), jnp.asarray(B[:5]))
    np.testing.assert_allclose(Y, np.linalg.lstsq(U.T, B[:5])[0], atol=1e-5)


def test_the_estimate_of_the_error(rng):
    U = with_singular_values(rng, "complex64", 40, 20, np.geomspace(1, 0.003, 20))
    for W in (np.linalg.inv(np.linalg.cholesky(_H(U) @ U)), np.eye(20, dtype="complex64")):
        exact = np.linalg.norm(np.eye(20) - _H(W) @ W @ _H(U) @ U)
        # that of eight vectors, where E has few large singular values
        np.testing.assert_allclose(_size_of_error(jnp.asarray(U), jnp.asarray(W)), exact, rtol=0.7)


@SHAPES
def test_one_matrix_of_deficient_rank_or_with_nan_in_a_batch(shape, rng):
    good = np.stack([well_conditioned(rng, "float64", *shape) for _ in range(4)])
    assert _source(good) == "Cholesky"
    mixed = good.copy()
    mixed[1] = with_singular_values(rng, "float64", *shape, np.append(np.ones(min(shape) - 1), 0))
    mixed[2, 0, 0] = np.nan
    assert _source(mixed) == "svd"
    b = jnp.asarray(general(rng, "float64", 4, shape[0], 1))
    ours, theirs = linalgx.lstsq(jnp.asarray(mixed), b), linalgx.lstsq(jnp.asarray(good), b)
    for x, y in zip(ours, theirs, strict=True):
        # residuals that may be zero, compared to 1
        assert_close(1 + x[jnp.array([0, 3])], 1 + y[jnp.array([0, 3])], tolerance("float64", 12, 100))
    np.testing.assert_array_equal(ours.rank, np.array([1, 1, 0, 1]) * min(shape) - np.array([0, 1, 0, 0]))
    np.testing.assert_array_equal(np.isnan(ours.solution).any(axis=(1, 2)), [False, False, True, False])
    gradient = jax.grad(lambda a: jnp.sum(linalgx.lstsq(a, b).solution[jnp.array([0, 1, 3])] ** 2))(jnp.asarray(mixed))
    assert np.isfinite(gradient[jnp.array([0, 1, 3])]).all()


@pytest.mark.parametrize("shape", [(3, 2), (30, 9)], ids=str)
@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e-20), ("float64", 1e-200), ("complex128", 1e200)])
def test_gradient_of_residuals_at_every_scale(dtype, size, shape, rng):
    """-2 R X^H, without the derivative of the solution, which has no range here."""
    a, b = general(rng, dtype, *shape), general(rng, dtype, shape[0], 2)
    wide = np.promote_types(dtype, np.float64)
    X = np.linalg.lstsq(a.astype(wide), b.astype(wide))[0]
    R = b - a @ X
    f = lambda a, b: jnp.sum(linalgx.lstsq(a, b).residuals)
    small = jnp.asarray(a * np.asarray(size, dtype))
    of_a, of_b = jax.grad(f, (0, 1))(small, jnp.asarray(b))
    assert_close(np.conj(of_a).astype(wide) * size, -2 * R @ _H(X), tolerance(dtype, 10, 1000))
    assert_close(np.conj(of_b), 2 * R, tolerance(dtype, 10, 100))
    D = general(rng, dtype, *shape)
    tangent = jax.jvp(lambda a: f(a, jnp.asarray(b)), (small,), (jnp.asarray(D * np.asarray(size, dtype)),))[1]
    assert_close(tangent, np.vdot(-2 * R @ _H(X), D).real, tolerance(dtype, 10, 1000))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("columns", [1, 20], ids=["a column", "many columns"])
@SHAPES
def test_a_matrix_that_is_not_finite_changes_no_bit_of_the_others(shape, columns, value, rng):
    good = np.stack([well_conditioned(rng, "float64", *shape) for _ in range(4)])
    bad = good.copy()
    bad[3, 2, 1] = value
    b = jnp.asarray(general(rng, "float64", 4, shape[0], columns))
    for function in (lambda A: linalgx.lstsq(A, b), lambda A: [linalgx.pinv(A)]):
        for x, y in zip(function(jnp.asarray(bad)), function(jnp.asarray(good)), strict=True):
            np.testing.assert_array_equal(x[:3], y[:3])
            assert np.all(np.isnan(x[3])) or x[3] == 0
    assert _source(bad[[0, 3]]) == "Cholesky"


of_full_rank = pytest.mark.parametrize(
    "function", [linalgx.pinv, lambda A: linalgx.lstsq(A, A[..., :1])[0]], ids=["pinv", "lstsq"]
)


@of_full_rank
def test_exported_programs(function, rng):
    x = jnp.asarray(general(rng, "float64", 30, 20))
    program = jax.export.deserialize(jax.export.export(jax.jit(function))(x).serialize())
    np.testing.assert_allclose(program.call(x), function(x), atol=1e-12)


@of_full_rank
def test_a_batch_that_is_shared_out_is_not_gathered(function, rng):
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))
    x = jnp.asarray(general(rng, "float64", 6, 30, 20))
    A = jax.device_put(x, NamedSharding(mesh, PartitionSpec("b")))
    compiled = jax.jit(function).lower(A).compile()
    assert "all-gather" not in compiled.as_text()
    np.testing.assert_allclose(compiled(A), function(x), atol=1e-12)
