"""Numbers at the ends of the range, numbers that are none, and the matrices that algorithms fail at."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import linalgx
from linalgx._kernels.select import prefer
from tests.operations import FIRST_CASES
from tests.operations.case import Case, assert_close, tolerance
from tests.operations.inputs import hermitian, positive_definite, unitary, well_conditioned, with_spectrum

PATHS = ["batch_minor", "lapack"]


def run(path: str, function, *args):
    """The function of a batch, by one of the two ways to compute it."""
    with prefer(path):
        return jax.jit(function)(*args)


def wide(x) -> np.ndarray:
    """The numbers in extended precision, whose range has room for squares and products."""
    x = np.asarray(x)
    return x.astype(np.clongdouble if np.iscomplexobj(x) else np.longdouble)


def adjoint(X):
    return np.conj(np.swapaxes(X, -1, -2))


def size(X):
    """The Frobenius norm of each matrix."""
    return np.sqrt(np.sum(np.abs(X) ** 2, axis=(-2, -1)))


# --- scale: f(s A) = s^k f(A), for powers of two s, to the ends of the range


def _square(rng, dtype, n):
    return well_conditioned(rng, dtype, n, n)


def _tall(rng, dtype, n):
    return well_conditioned(rng, dtype, n, n - 1)


def _separated(rng, dtype, n):
    return with_spectrum(rng, dtype, np.arange(1, n + 1))


def _residuals(A):
    B = jnp.broadcast_to(jnp.eye(A.shape[-2], dtype=A.dtype), (*A.shape[:-1], A.shape[-2]))
    return linalgx.lstsq(A, B).residuals


# the matrices, the function of a batch, and k for each of its outputs; "n" is the order of the matrix
SCALED = {
    "vector_norm": (_square, lambda A: linalgx.vector_norm(A, axis=-1), [1]),
    "vector_norm, ord = 3.5": (_square, lambda A: linalgx.vector_norm(A, axis=-1, ord=3.5), [1]),
    "matrix_norm": (_square, linalgx.matrix_norm, [1]),
    "matrix_norm, nuc": (_square, lambda A: linalgx.matrix_norm(A, ord="nuc"), [1]),
    "cond": (_square, linalgx.cond, [0]),
    "cond, fro": (_square, lambda A: linalgx.cond(A, "fro"), [0]),
    "cond, 1": (_square, lambda A: linalgx.cond(A, 1), [0]),
    "cond, nuc": (_square, lambda A: linalgx.cond(A, "nuc"), [0]),
    "matrix_rank": (_square, linalgx.matrix_rank, [0]),
    "qr": (_square, linalgx.qr, [0, 1]),
    "qr, complete": (_tall, lambda A: linalgx.qr(A, mode="complete"), [0, 1]),
    "svd": (_tall, linalgx.svd, [0, 1, 0]),
    "svdvals": (_square, linalgx.svdvals, [1]),
    "eigh": (hermitian, linalgx.eigh, [1, 0]),
    "eigvalsh": (hermitian, linalgx.eigvalsh, [1]),
    "eig": (_separated, linalgx.eig, [1, 0]),
    "slogdet": (_square, linalgx.slogdet, [0, "log"]),
    "det": (_square, linalgx.det, ["n"]),
    "inv": (_square, linalgx.inv, [-1]),
    "solve": (_square, lambda A: linalgx.solve(A, A), [0]),
    "solve_triangular": (_square, lambda A: linalgx.solve_triangular(A, A, upper=True), [0]),
    "lstsq": (_tall, lambda A: linalgx.lstsq(A, A).solution, [0]),
    "lstsq residuals": (_tall, _residuals, [0]),
    "pinv": (_tall, linalgx.pinv, [-1]),
    "pinv, Hermitian": (hermitian, lambda A: linalgx.pinv(A, hermitian=True), [-1]),
    "cholesky": (positive_definite, linalgx.cholesky, [0.5]),
    "cholesky_inverse": (positive_definite, lambda A: linalgx.cholesky_inverse(linalgx.cholesky(A)), [-1]),
    "cholesky_solve": (positive_definite, lambda A: linalgx.cholesky_solve(A, linalgx.cholesky(A)), [0]),
    "lu": (_square, linalgx.lu, [0, 0, 1]),
    "lu_solve": (_square, lambda A: linalgx.lu_solve(*linalgx.lu_factor(A), A), [0]),
    "ldl_solve": (
        hermitian,
        lambda A: linalgx.ldl_solve(*linalgx.ldl_factor(A, hermitian=True), A, hermitian=True),
        [0],
    ),
}
EXPONENTS = {"float64": [-950, -520, 520, 950], "float32": [-100, -65, 65, 100], "complex64": [-100, -65, 65, 100]}
SIZES = [("batch_minor", 2), ("batch_minor", 4), ("lapack", 4)]
QUICK = [("float64", "batch_minor", 2), ("float64", "lapack", 4)]


@pytest.mark.parametrize(
    ("dtype", "path", "n"),
    [
        pytest.param(dtype, *which, marks=() if (dtype, *which) in QUICK else pytest.mark.slow)
        for dtype in EXPONENTS
        for which in SIZES
    ],
)
@pytest.mark.parametrize("name", SCALED)
def test_scale(name: str, dtype: str, path: str, n: int, rng) -> None:
    make, function, degrees = SCALED[name]
    A, exponents = make(rng, dtype, n), EXPONENTS[dtype]
    scales = np.array([2.0**e for e in [0, *exponents]], np.finfo(dtype).dtype)
    outputs = jax.tree.leaves(run(path, function, jnp.asarray(scales[:, None, None] * A)))
    numbers = np.finfo(dtype)
    for output, degree in zip(outputs, degrees, strict=True):
        first, others = wide(output)[0], wide(output)[1:]
        for exponent, other in zip(exponents, others, strict=True):
            if degree == "log":
                expected = first + n * exponent * np.log(np.longdouble(2))
            else:
                expected = first * np.longdouble(2) ** np.longdouble(exponent * (n if degree == "n" else degree))
            largest = np.max(np.abs(expected))
            if largest > numbers.max:
                assert np.all(np.isinf(other))
                continue
            bound = 200 * n * (numbers.eps * largest + numbers.tiny)
            assert np.max(np.abs(other - expected)) <= bound, (exponent, other, expected)


# --- entries from one end of the range to the other in one matrix


def exact_determinant(A: np.ndarray):
    """By elimination with a hundred digits (mpmath's own calls matrices of numbers of every size singular)."""
    with mpmath.workdps(100):
        rows, determinant = [[mpmath.mpmathify(x.item()) for x in row] for row in A], mpmath.mpf(1)
        while rows:
            pivot = max(range(len(rows)), key=lambda i: abs(rows[i][0]))
            top = rows.pop(pivot)
            determinant *= top[0] * (-1) ** pivot
            if not determinant:
                break
            rows = [[x - row[0] / top[0] * y for x, y in zip(row[1:], top[1:], strict=True)] for row in rows]
        return determinant


def _spread(rng, dtype: str, m: int, n: int, exponent: float) -> np.ndarray:
    """Entries of both signs, of every size from 10^-exponent to 10^exponent."""
    sign = np.where(rng.random((m, n)) < 0.5, -1, 1)
    return (sign * 10.0 ** rng.uniform(-exponent, exponent, (m, n))).astype(dtype)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_entries_of_every_size(dtype: str, path: str, rng) -> None:
    exponent, numbers = (300, np.finfo(dtype)) if dtype == "float64" else (37, np.finfo(dtype))
    a = np.stack([_spread(rng, dtype, 4, 3, exponent) for _ in range(20)])
    functions = linalgx.matrix_norm, linalgx.qr, linalgx.svd, linalgx.svdvals, linalgx.cond, linalgx.pinv
    norm, (Q, R), (U, S, Vh), values, cond, inverse = run(path, lambda A: [f(A) for f in functions], jnp.asarray(a))
    A, values, cond, eps = wide(a), wide(values), wide(cond), 100 * numbers.eps
    exact = size(A)
    assert np.all(np.abs(wide(norm) - exact) <= eps * exact)
    assert np.all(size(wide(Q) @ wide(R) - A) <= eps * exact)
    assert np.all(size((wide(U)[..., :3] * wide(S)[:, None]) @ wide(Vh) - A) <= eps * exact)
    assert np.all(np.abs(values - wide(S)) <= eps * exact[:, None])
    assert np.all(cond >= 1 - eps)
    assert np.all(np.isfinite(inverse))


@pytest.mark.parametrize("path", PATHS)
def test_determinant_of_rows_and_columns_of_every_size(path: str, rng) -> None:
    a = np.stack([well_conditioned(rng, "float64", 5, 5) for _ in range(10)])
    a = a * 10.0 ** rng.uniform(-100, 100, (10, 5, 1)) * 10.0 ** rng.uniform(-100, 100, (10, 1, 5))
    det, (sign, logarithm) = run(path, lambda A: (linalgx.det(A), linalgx.slogdet(A)), jnp.asarray(a))
    for i, A in enumerate(a):
        exact = exact_determinant(A)
        exact_logarithm = float(mpmath.log(abs(exact)))
        assert sign[i] == float(mpmath.sign(exact))
        assert abs(logarithm[i] - exact_logarithm) <= 1e-12 * max(1, abs(exact_logarithm))
        if 1e-300 < abs(exact) < 1e300:
            assert abs(det[i] / float(exact) - 1) <= 1e-11


@pytest.mark.parametrize("path", PATHS)
def test_denormals_are_small_numbers(path: str) -> None:
    """JAX takes them for zero on the CPU: they do what a zero would do, and not worse."""
    a = np.array([[[1.0, 5e-324], [0.0, 1.0]], [[5e-324, 0.0], [0.0, 1e-310]], [[3e-310, 1.0], [1.0, 0.0]]])
    zeros = np.where(np.abs(a) < 1e-300, 0, a)
    functions = linalgx.svd, linalgx.qr, linalgx.eigh, linalgx.det, linalgx.matrix_norm
    everything = lambda A: [f(A) for f in functions]
    ours, theirs = run(path, everything, jnp.asarray(a)), run(path, everything, jnp.asarray(zeros))
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-15)


# --- one number of one member is no number

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, 5e-324, 1e300, -1e-300]


SPOILED = {
    "batch_minor": ("cholesky", "lu", "eigh", "svd", "det", "matrix_exp", "vector_norm"),
    "lapack": ("qr", "eig", "solve", "lstsq", "slogdet", "ldl_factor"),
}
"""The functions of every run."""
BLIND = {"matrix_power", "householder_product", "ormqr"}
"""Functions whose result need not depend on the entry that is spoiled: A^0, what is on the diagonal of reflections."""


@pytest.mark.parametrize(
    ("case", "path"),
    [
        pytest.param(case, path, id=f"{case}-{path}", marks=() if case.function in SPOILED[path] else pytest.mark.slow)
        for case in FIRST_CASES
        if case.batchable
        for path in PATHS
    ],
)
def test_a_special_value_stays_in_its_matrix(case: Case, path: str, rng) -> None:
    first, *others = case.arrays(rng, "float64", (len(SPECIAL) + 1,))
    spoiled = first.copy()
    place = (0,) * (first.ndim - 1)
    for i, value in enumerate(SPECIAL):
        spoiled[(i, *place)] = value
    mapped = jax.vmap(lambda *x: case(*x))
    good, bad = (jax.tree.leaves(run(path, mapped, jnp.asarray(x), *others)) for x in (first, spoiled))
    for x, y in zip(good, bad, strict=True):
        assert_close(y[-1], x[-1], tolerance("float64", 4, case.condition), str(case))
    if case.function not in BLIND:
        assert any(_tells(np.asarray(x)[0]) for x in bad), str(case)
    for i, value in enumerate(SPECIAL):
        alone = jax.tree.leaves(run(path, mapped, jnp.asarray(spoiled[[i, -1]]), *(x[[i, -1]] for x in others)))
        for x, y in zip(bad, alone, strict=True):
            np.testing.assert_array_equal(np.isnan(y[0]), np.isnan(x[i]), err_msg=f"{case} {value}")


def _tells(x: np.ndarray) -> bool:
    """Whether the result says that there was a NaN."""
    return bool(np.any(x == -1) if x.dtype.kind == "i" else np.any(np.isnan(x)))


# --- the matrices that algorithms fail at


def hilbert(n):
    return 1 / (1 + np.arange(n)[:, None] + np.arange(n))


def wilkinson(n):
    """Elimination with partial pivoting lets its entries grow to 2^(n - 1)."""
    A = np.eye(n) - np.tril(np.ones((n, n)), -1)
    A[:, -1] = 1
    return A


def wilkinson_tridiagonal(n):
    """Pairs of eigenvalues that are close and not equal."""
    return np.diag(np.abs(np.arange(n) - (n - 1) / 2)) + np.eye(n, k=1) + np.eye(n, k=-1)


def kahan(n, angle=1.2):
    """Triangular, nearly singular, and no column shows it."""
    R = np.eye(n) - np.cos(angle) * np.triu(np.ones((n, n)), 1)
    return np.sin(angle) ** np.arange(n)[:, None] * R


def graded(n):
    """Positive definite, falling from 1 to 1e-30."""
    d = 10.0 ** -np.linspace(0, 15, n)
    return (np.eye(n) + 0.3) * d[:, None] * d


def graded_indefinite(n):
    return graded(n) * np.where((np.arange(n)[:, None] + np.arange(n)) % 3 == 1, -1, 1)


def jordan(n):
    return np.eye(n) + np.eye(n, k=1)


def nilpotent(n):
    return np.eye(n, k=1)


def clustered(n):
    Q = unitary(np.random.default_rng(n), "float64", n)
    return (Q * (1 + 4e-16 * np.arange(n))) @ Q.T


def rank_one(n):
    return np.outer(np.arange(1, n + 1), np.cos(np.arange(n)))


def zero(n):
    return np.zeros((n, n))


def huge(n):
    return hilbert(n)[::-1] * 1e30


def tiny(n):
    return wilkinson_tridiagonal(n) * 1e-30


HARD = [hilbert, wilkinson, wilkinson_tridiagonal, kahan, graded, graded_indefinite, jordan, nilpotent, clustered]
HARD += [rank_one, zero, huge, tiny]
WHERE = [("float64", "batch_minor", 5), ("float64", "lapack", 5), ("float64", "lapack", 12)]
WHERE += [("float64", "batch_minor", 2), ("float32", "batch_minor", 8), ("float32", "lapack", 6)]
WHERE += [("complex128", "batch_minor", 4), ("complex64", "lapack", 10)]
WHERES = [pytest.param(*where, marks=() if i in (0, 2) else pytest.mark.slow) for i, where in enumerate(WHERE)]
each = pytest.mark.parametrize(("dtype", "path", "n"), WHERES)


@functools.cache
def matrices(dtype: str, n: int, symmetric: bool = False) -> np.ndarray:
    """All of them; of a complex dtype with random phases of the rows and columns."""
    A = np.stack([make(n) for make in HARD])
    if symmetric:
        A = np.stack([np.tril(X) + np.tril(X, -1).T for X in A])
    if np.issubdtype(dtype, np.complexfloating):
        angles = np.random.default_rng(n).uniform(0, 6, (2, n))
        rows, columns = np.exp(1j * angles)
        A = rows[:, None] * A * (rows.conj() if symmetric else columns)
        A = np.stack([(X + adjoint(X)) / 2 for X in A]) if symmetric else A
    return A.astype(dtype)


@functools.cache
def exact_values(dtype: str, n: int, kind: str) -> np.ndarray:
    """Eigenvalues, ascending, or singular values, descending, as mpmath finds them."""
    rows = []
    for A in matrices(dtype, n, symmetric=kind == "eigh"):
        X = mpmath.matrix(A.tolist())
        real = not np.iscomplexobj(A)
        with mpmath.workdps(60):
            if kind == "eigh":
                values = (mpmath.eigsy if real else mpmath.eighe)(X, eigvals_only=True)
            else:
                values = (mpmath.svd_r if real else mpmath.svd_c)(X, compute_uv=False)
        rows.append(
            np.sort([np.longdouble(mpmath.nstr(v, 25)) for v in np.ravel(values.tolist())])[
                :: 1 if kind == "eigh" else -1
            ]
        )
    return np.stack(rows)


def check(name: str, error, bound, dtype: str, n: int) -> None:
    """Every error is within a small multiple of n eps of what it is measured by."""
    limit = 16 * n * np.finfo(dtype).eps * bound
    for kind, e, most in zip(HARD, error, limit, strict=True):
        assert e <= most, f"{name} of {kind.__name__}: {e / most * 16:.3g} n eps"


def defect(Q):
    return size(adjoint(Q) @ Q - np.eye(Q.shape[-1]))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64"])
def test_qr_at_the_end_of_the_range(dtype: str, path: str) -> None:
    a = (hilbert(6) * float(np.finfo(dtype).max) / 4).astype(dtype)[None]
    Q, R = map(wide, run(path, linalgx.qr, jnp.asarray(a)))
    assert size(Q @ R - wide(a))[0] <= 100 * np.finfo(dtype).eps * size(wide(a))[0]


@each
def test_orthogonal_decompositions(dtype: str, path: str, n: int) -> None:
    a = matrices(dtype, n)
    (Q, R), (U, S, Vh) = run(path, lambda A: (linalgx.qr(A), linalgx.svd(A)), jnp.asarray(a))
    values = run(path, linalgx.svdvals, jnp.asarray(a))
    A, Q, R, U, S, Vh = map(wide, (a, Q, R, U, S, Vh))
    check("qr", size(Q @ R - A), size(A), dtype, n)
    check("Q", defect(Q), np.ones(len(A)), dtype, n)
    check("svd", size((U * S[:, None]) @ Vh - A), size(A), dtype, n)
    check("U", defect(U), np.ones(len(A)), dtype, n)
    check("Vh", defect(adjoint(Vh)), np.ones(len(A)), dtype, n)
    exact = exact_values(dtype, n, "svd")
    for computed in (S, wide(values)):
        check("S", np.max(np.abs(computed - exact), axis=-1), exact[:, 0], dtype, n)


@each
def test_eigenvalues(dtype: str, path: str, n: int) -> None:
    a, b = matrices(dtype, n, symmetric=True), matrices(dtype, n)
    (l, V), values = run(path, lambda A: (linalgx.eigh(A), linalgx.eigvalsh(A)), jnp.asarray(a))
    m, W = run(path, linalgx.eig, jnp.asarray(b))
    A, B, l, V, m, W = map(wide, (a, b, l, V, m, W))
    check("eigh", size((V * l[:, None]) @ adjoint(V) - A), size(A), dtype, n)
    check("V", defect(V), np.ones(len(A)), dtype, n)
    exact = exact_values(dtype, n, "eigh")
    for computed in (l, wide(values)):
        check("l", np.max(np.abs(computed - exact), axis=-1), np.max(np.abs(exact), axis=-1), dtype, n)
    check("eig", size(B @ W - W * m[:, None]), size(B), dtype, n)
    check("unit eigenvectors", np.max(np.abs(np.sum(np.abs(W) ** 2, axis=-2) - 1), axis=-1), np.ones(len(B)), dtype, n)


@each
def test_triangular_decompositions(dtype: str, path: str, n: int) -> None:
    a, s = matrices(dtype, n), matrices(dtype, n, symmetric=True)
    b = np.ones((n, 1), dtype)
    (P, L, U), x = run(path, lambda A: (linalgx.lu(A), linalgx.solve(A, jnp.asarray(b))), jnp.asarray(a))
    inverse = run(path, linalgx.inv, jnp.asarray(a))
    A, P, L, U, x, inverse, b = map(wide, (a, P, L, U, x, inverse, b))
    growth = size(L) * size(U)
    check("lu", size(P @ L @ U - A), growth, dtype, n)
    # complex multipliers are compared by |Re| + |Im|
    assert np.all(np.abs(L) <= np.sqrt(2))
    solved = np.isfinite(size(x))
    singular = np.array([kind in (nilpotent, zero) for kind in HARD])
    assert not np.any(solved & singular)
    assert np.all(solved | (np.abs(np.diagonal(U, axis1=-2, axis2=-1)).min(-1) <= 1e-15 * size(U)))
    x = np.where(solved[:, None, None], x, 0)
    error = np.where(solved, size(A @ x - b), 0)
    check("solve", error, growth * size(x) + size(b), dtype, n)
    X = np.where(solved[:, None, None], inverse, 0)
    error = np.where(solved, size(A @ X - np.eye(n)), 0)
    check("inv", error, growth * size(X), dtype, n)

    C = wide(run(path, linalgx.cholesky, jnp.asarray(s)))
    definite = np.isfinite(size(C))
    exact = exact_values(dtype, n, "eigh")
    clear = n * np.finfo(dtype).eps * np.abs(exact).max(-1)
    assert np.all(definite | (exact[:, 0] <= 4 * clear))
    assert not np.any(definite & (exact[:, 0] < -4 * clear))
    S = wide(s)
    check("cholesky", np.where(definite, size(C @ adjoint(C) - S), 0), size(S), dtype, n)
    y = run(
        path,
        lambda A: linalgx.ldl_solve(
            *linalgx.ldl_factor(A, hermitian=True), jnp.ones((len(HARD), n, 1), A.dtype), hermitian=True
        ),
        jnp.asarray(s),
    )
    y = wide(y)
    solved = np.isfinite(size(y))
    y = np.where(solved[:, None, None], y, 0)
    check("ldl", np.where(solved, size(S @ y - b), 0), n * size(S) * size(y) + size(b), dtype, n)


@each
def test_least_squares(dtype: str, path: str, n: int) -> None:
    a = matrices(dtype, n)[..., : n - n // 3]
    b = np.ones((len(HARD), n, 1), dtype)
    x, X = run(path, lambda A, B: (linalgx.lstsq(A, B).solution, linalgx.pinv(A)), jnp.asarray(a), jnp.asarray(b))
    A, b, x, X = map(wide, (a, b, x, X))
    normal = adjoint(A) @ (b - A @ x)
    check("lstsq", size(normal), size(A) * (size(A) * size(x) + size(b)), dtype, n)
    check("pinv", size(A @ X @ A - A), size(A) * (1 + size(A) * size(X)), dtype, n)
    check("pinv", size(X @ A @ X - X), size(X) * (1 + size(A) * size(X)), dtype, n)


@each
def test_determinants_and_exponential(dtype: str, path: str, n: int) -> None:
    a = matrices(dtype, n)
    a = np.where(size(wide(a))[:, None, None] > 1e10, 0, a).astype(dtype)
    det, E, U = run(path, lambda A: (linalgx.det(A), linalgx.matrix_exp(A), linalgx.lu(A).U), jnp.asarray(a))
    for i, kind in enumerate(HARD):
        A = mpmath.matrix(a[i].tolist())
        with mpmath.workdps(60):
            exact, exponential = exact_determinant(a[i]), mpmath.expm(A)
        # a change of A by eps |A| (and what elimination makes of it) changes det A by |adj A| times that
        S, growth = exact_values(dtype, n, "svd")[i], size(wide(U[i]))
        bound = 16 * n**2 * np.finfo(dtype).eps * float(growth * np.prod(S[:-1]))
        assert abs(complex(exact) - complex(det[i])) <= bound + float(np.finfo(dtype).tiny), kind.__name__
        exponential = np.array(exponential.tolist(), complex)
        error = size(wide(exponential - np.asarray(E[i])))
        norm = float(np.linalg.norm(np.asarray(a[i], complex)))
        assert error <= 16 * n * np.finfo(dtype).eps * (1 + norm) * float(np.exp(norm)), kind.__name__


# --- a million matrices, and one that fails

MANY, BAD = 1_000_000, 777_777
IN_BATCH = {
    "matrix_norm": (linalgx.matrix_norm, np.nan),
    "det": (linalgx.det, np.nan),
    "cholesky": (linalgx.cholesky, -1.0),
    "inv": (linalgx.inv, 0.25),
    "eigh": (linalgx.eigh, np.inf),
    "solve": (lambda A: linalgx.solve(A, jnp.ones((2, 1), A.dtype)), 0.25),
    "slogdet": (linalgx.slogdet, np.nan),
    "qr": (linalgx.qr, np.nan),
    "svd": (linalgx.svd, np.inf),
    "cond": (linalgx.cond, np.nan),
    "matrix_exp": (linalgx.matrix_exp, np.nan),
    "pinv": (linalgx.pinv, np.nan),
    "eig": (linalgx.eig, np.nan),
}


@pytest.mark.optimized
@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=() if i < 5 else pytest.mark.slow) for i, x in enumerate(IN_BATCH)]
)
def test_one_of_a_million(name: str) -> None:
    function, value = IN_BATCH[name]
    a = jnp.broadcast_to(jnp.array([[1.0, 0.5], [0.5, 1.0]], jnp.float32), (MANY, 2, 2)).at[BAD, 1, 1].set(value)
    for x in jax.tree.leaves(jax.jit(function)(a)):
        failed = np.isnan(np.asarray(x)).reshape(MANY, -1)
        assert np.flatnonzero(failed.any(axis=-1)).tolist() == [BAD]
        assert failed[BAD].any()
