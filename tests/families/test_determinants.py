"""Determinants where they are hard: singular matrices of every rank, repeated singular values, extreme scales."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import linalgx
from linalgx._kernels.select import prefer
from tests.operations.case import tolerance
from tests.operations.inputs import general, unitary, well_conditioned, with_singular_values


def _of_rank(n, rank):
    rng = np.random.default_rng(n + 10 * rank)
    return with_singular_values(rng, "float64", n, n, np.linspace(2, 1, rank))


def _zero_first_column():
    A = general(np.random.default_rng(0), "float64", 4, 4)
    A[:, 0] = 0
    return A


SINGULAR = {
    "zero pivot first": np.diag([0.0, 1, 1, 1]),
    "zero pivot second": np.diag([1.0, 0, 1, 1]),
    "zero pivot last": np.diag([1.0, 1, 1, 0]),
    "two zero pivots": np.diag([1.0, 0, 0, 1]),
    "nilpotent shift": np.eye(4, k=1),
    "zero first column": _zero_first_column(),
    "[[1, 2], [2, 4]] and the identity": np.block(
        [[np.array([[1.0, 2], [2, 4]]), np.zeros((2, 2))], [np.zeros((2, 2)), np.eye(2)]]
    ),
    "Laplacian of the complete graph": 4 * np.eye(4) - np.ones((4, 4)),
    "ones": np.ones((4, 4)),
    "zero": np.zeros((4, 4)),
    **{f"rank {rank}": _of_rank(4, rank) for rank in (3, 2, 1)},
    "identity": np.eye(4),
    "reflection": np.diag([1.0, 1, 1, -1]),
    "tie at 1e-12": np.diag([1.0, 1 + 1e-12, 2, 0]),
    "tie at 1e-6": np.diag([1.0, 1 + 1e-6, 1e-6, 0]),
    "condition 1e10": with_singular_values(np.random.default_rng(7), "float64", 4, 4, [1, 1, 0.5, 1e-10]),
    "two small ones": with_singular_values(np.random.default_rng(8), "float64", 4, 4, [1, 1, 1e-9, 1e-10]),
}
NAMES = list(SINGULAR)


def _leibniz(A):
    """The determinant as the polynomial that it is: right to every order."""
    n = A.shape[0]
    terms = []
    for order in itertools.permutations(range(n)):
        inversions = sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n))
        term = A[0, order[0]]
        for i in range(1, n):
            term = term * A[i, order[i]]
        terms.append(-term if inversions % 2 else term)
    return sum(terms[1:], terms[0])


def _all(derivative, f, scale=1.0, dtype="float64"):
    return jax.jit(jax.vmap(derivative(f)))(jnp.asarray(np.stack(list(SINGULAR.values())) * scale, dtype))


def _assert_members_close(ours, theirs, scales, rtol):
    for name, x, y, scale in zip(NAMES, ours, theirs, scales, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * float(scale), err_msg=name)


@pytest.mark.parametrize(("scale", "dtype"), [(1.0, "float64"), (1e8, "float64"), (1e-8, "float64"), (1.0, "float32")])
def test_gradient_at_every_rank(scale, dtype) -> None:
    expected = _all(jax.grad, _leibniz, scale, dtype)
    scales = [scale**3 * max(np.linalg.norm(A, 2), 1) ** 3 for A in SINGULAR.values()]
    _assert_members_close(_all(jax.grad, linalgx.det, scale, dtype), expected, scales, tolerance(dtype, 4))


@pytest.mark.parametrize(
    "hessian",
    [jax.hessian, lambda f: jax.jacrev(jax.jacrev(f)), lambda f: jax.jacfwd(jax.jacfwd(f))],
    ids=["forward over reverse", "reverse over reverse", "forward over forward"],
)
def test_hessian_at_every_rank(hessian) -> None:
    expected = _all(jax.hessian, _leibniz)
    scales = [max(np.linalg.norm(A, 2), 1) ** 2 for A in SINGULAR.values()]
    _assert_members_close(_all(hessian, linalgx.det), expected, scales, 100 * tolerance("float64", 4))


@pytest.mark.parametrize(("scale", "dtype"), [(1e8, "float64"), (1e-8, "float64"), (1.0, "float32")])
def test_hessian_at_every_scale(scale, dtype) -> None:
    expected = _all(jax.hessian, _leibniz, scale, dtype)
    scales = [scale**2 * max(np.linalg.norm(A, 2), 1) ** 2 for A in SINGULAR.values()]
    _assert_members_close(_all(jax.hessian, linalgx.det, scale, dtype), expected, scales, 100 * tolerance(dtype, 4))


def test_complex_hessian_at_every_rank(rng) -> None:
    stack = []
    for rank in range(5):
        U, V = unitary(rng, "complex128", 4), unitary(rng, "complex128", 4)
        stack.append((U * np.r_[np.ones(rank), np.zeros(4 - rank)]) @ V)
    A = jnp.asarray(np.stack(stack))
    hessian = lambda f: jax.jit(jax.vmap(jax.jacfwd(jax.grad(f, holomorphic=True), holomorphic=True)))(A)
    np.testing.assert_allclose(hessian(linalgx.det), hessian(_leibniz), rtol=0, atol=tolerance("float64", 4, 100))


def test_third_derivative_is_right_or_nan(rng) -> None:
    third = lambda f: jax.jit(jax.vmap(jax.jacfwd(jax.hessian(f))))
    regular = jnp.stack([jnp.eye(4), jnp.asarray(well_conditioned(rng, "float64", 4, 4))])
    np.testing.assert_allclose(
        third(linalgx.det)(regular), third(_leibniz)(regular), rtol=0, atol=tolerance("float64", 4, 100)
    )
    singular = jnp.diag(jnp.array([1.0, 0, 1, 1]))[None]
    assert not np.isfinite(third(linalgx.det)(singular)).any()


def test_small_matrices_to_third_order() -> None:
    for n in (1, 2, 3):
        A = jnp.diag(jnp.arange(n, dtype=float))
        for derivative in (lambda f: f, jax.grad, jax.hessian, lambda f: jax.jacrev(jax.hessian(f))):
            np.testing.assert_allclose(
                jax.jit(derivative(linalgx.det))(A), derivative(_leibniz)(A), atol=tolerance("float64", n)
            )


def test_large_gradient_against_many_digits(rng) -> None:
    A = with_singular_values(rng, "float64", 8, 8, [3, 2, 2, 1, 1, 1, 0.5, 1e-13])
    with mpmath.workdps(50):
        exact = mpmath.matrix(A.tolist())
        adjugate = np.array((mpmath.det(exact) * exact**-1).tolist(), float)
    gradient = jax.grad(linalgx.det)(jnp.asarray(A))
    np.testing.assert_allclose(gradient, adjugate.T, rtol=0, atol=tolerance("float64", 8) * np.abs(adjugate).max())


SPANS = {"float64": 10, "float32": 4}


def _badly_scaled(kind, n, dtype, span):
    """D B C in the dtype, and the diagonals of D and C."""
    rng = np.random.default_rng(n)
    B, one = rng.standard_normal((n, n)), np.ones(n)
    sizes = 10.0 ** (span * np.linspace(-1, 1, n))
    if kind == "singular":
        # of integers and powers of two, so that rank n - 1 is exact
        B, sizes = np.round(8 * B), 2.0 ** np.round(np.log2(sizes))
        B[-1] = B[:-1].sum(axis=0)
    rows = sizes if kind in ("rows", "both", "D B D", "singular") else one
    columns = {"rows": one, "D B D": sizes}.get(kind, rng.permutation(sizes))
    return (rows[:, None] * B * columns).astype(dtype), rows, columns


def _cofactors(A):
    """In many digits, by minors, at every rank."""
    n = len(A)
    exact = mpmath.matrix(A.astype(float).tolist())
    minors = [
        [
            mpmath.det(mpmath.matrix([[exact[k, l] for l in range(n) if l != j] for k in range(n) if k != i]))
            for j in range(n)
        ]
        for i in range(n)
    ]
    return np.array([[(-1) ** (i + j) * minors[i][j] for j in range(n)] for i in range(n)], object)


@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("n", [4, 5, 8])
@pytest.mark.parametrize("dtype", list(SPANS))
def test_gradient_of_badly_scaled_matrices(kernel, n, dtype) -> None:
    kinds = ("rows", "columns", "both", "D B D", "singular")
    inputs = [_badly_scaled(kind, n, dtype, SPANS[dtype]) for kind in kinds]
    with prefer(kernel):
        gradients = jax.jit(jax.grad(lambda A: linalgx.det(A).sum()))(jnp.stack([A for A, _, _ in inputs]))
    for kind, (A, rows, columns), gradient in zip(kinds, inputs, gradients, strict=True):
        with mpmath.workdps(100):
            natural = _cofactors(A) * rows[:, None] * columns
            ours = np.asarray(gradient, float).astype(object) * rows[:, None] * columns
            error, size = (float(max(map(abs, X.ravel()))) for X in (ours - natural, natural))
        assert error <= tolerance(dtype, n) * size, kind


@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_gradient_where_only_products_leave_the_range(kernel, dtype) -> None:
    """Of members that lie beside others, which need no care."""
    big = 2.0**66 if dtype != "float64" else 2.0**664
    small = big**-0.5
    diagonals = np.array([[big, big, small, small], [small**2, small**2, big, big], [0, big, big, small**2], 4 * [0]])
    permuted = [np.diag(d)[:, [2, 3, 0, 1]] for d in diagonals]
    A = np.array([*map(np.diag, diagonals), *permuted, np.eye(4)]).astype(dtype)
    with prefer(kernel):
        gradients = jax.jit(jax.grad(lambda A: jnp.real(linalgx.det(A)).sum()))(jnp.asarray(A))
    with mpmath.workdps(700):
        expected = np.array([_cofactors(np.real(X)) for X in A]).astype(float)
    np.testing.assert_allclose(gradients, expected, rtol=tolerance(dtype, 4), atol=0)


@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("places", [[(0, 3)], [(0, 3), (0, 2)], [(0, 3), (1, 3)]])
def test_gradient_beside_huge_entries(kernel, places) -> None:
    A = np.eye(5)
    A[:4, :4] = [[2, 1, 0, 1], [1, 3, 1, 0], [0, 1, 2, 1], [1, 0, 1, 3]]
    for place in places:
        A[place] = 1e20
    with prefer(kernel):
        gradient = jax.jit(jax.grad(lambda A: linalgx.det(A).sum()))(jnp.asarray(A)[None])[0]
    with mpmath.workdps(100):
        expected = _cofactors(A).astype(float)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerance("float64", 5) * np.abs(expected).max())


@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("kind", ["rows", "columns", "D B D", "singular"])
def test_hessian_of_badly_scaled_matrices(kernel, kind) -> None:
    A, rows, columns = _badly_scaled(kind, 4, "float64", 6)
    with prefer(kernel):
        hessian = jax.jit(jax.jacfwd(jax.grad(lambda A: linalgx.det(A).sum())))(jnp.asarray(A)[None])[0, :, :, 0]
    # the terms of the polynomial have no rounding errors but relative ones
    scale = np.einsum("i,j,k,l->ijkl", rows, columns, rows, columns)
    expected = jax.hessian(_leibniz)(jnp.asarray(A)) * scale
    np.testing.assert_allclose(hessian * scale, expected, rtol=0, atol=tolerance("float64", 4) * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_only_the_determinant_itself_leaves_the_range(dtype) -> None:
    d = jnp.array([1e-200, 1e-200, 1e200, 1e200, 3.0], dtype)
    for order in ([0, 1, 2, 3, 4], [2, 3, 0, 1, 4]):
        np.testing.assert_allclose(linalgx.det(jnp.diag(d[jnp.array(order)])), 3, rtol=1000 * tolerance("float64", 5))
    tiny = 1e-100 * jnp.eye(5, dtype=dtype)
    assert linalgx.det(tiny) == 0
    sign, logabsdet = linalgx.slogdet(tiny)
    np.testing.assert_allclose(logabsdet, -500 * np.log(10), rtol=tolerance("float64", 5))
    assert sign == 1


def test_nan_stays_in_its_member(rng) -> None:
    for n in (2, 4):
        A = np.stack([well_conditioned(rng, "float64", n, n)] * 3)
        A[1, 0, 0] = np.nan
        A[2] = 0
        for f in (linalgx.det, jax.vmap(jax.grad(linalgx.det)), linalgx.logdet, lambda a: linalgx.slogdet(a)[1]):
            out = np.asarray(f(jnp.asarray(A))).reshape(3, -1)
            assert np.isnan(out[1]).any()
            np.testing.assert_allclose(out[0], np.asarray(f(jnp.asarray(A[:1]))).ravel(), rtol=tolerance("float64", n))
        assert linalgx.det(jnp.asarray(A))[2] == 0


def test_third_derivative_in_reverse(rng) -> None:
    """That of the adjugate's derivative, which has the adjugate as an argument: in any order of the modes."""
    A, C, D, E = (jnp.asarray(general(rng, "float64", 4, 4)) for _ in range(4))
    along = lambda f, D: lambda A: jnp.sum(jax.grad(f)(A) * D)
    forward = lambda f, D: lambda A: jax.jvp(f, (A,), (D,))[1]
    # det is multilinear in the rows: the third difference quotient is exact, but for rounding
    f = lambda t: np.linalg.det(np.asarray(A) + t[0] * np.asarray(C) + t[1] * np.asarray(D) + t[2] * np.asarray(E))
    expected = sum(np.prod(t) * f(t) for t in itertools.product((-1, 1), repeat=3)) / 8
    for first, second, third in itertools.product((along, forward), repeat=3):
        value = third(second(first(linalgx.det, C), D), E)(A)
        np.testing.assert_allclose(value, expected, rtol=tolerance("float64", 4, 1000))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_rows_whose_products_are_out_of_range(dtype) -> None:
    size = 2.0 ** (jnp.finfo(dtype).maxexp // 2 + 1)
    A = jnp.asarray([[[1, 1], [1, 1 + 2**-12]], [[1, 2], [3, 1]], [[1, 2], [1, 1]]], dtype) * size
    expected = [float(size) * 2**-12 * size, -np.inf, -np.inf]
    for given, right in ((A, expected), (A[0], expected[0]), (A[1], expected[1])):
        np.testing.assert_allclose(linalgx.det(given), right, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(linalgx.det)(given), right, rtol=1e-6)


@pytest.mark.parametrize("n", [2, 4, 5, 30])
def test_derivatives_of_no_matrices(n) -> None:
    A = jnp.zeros((0, n, n))
    f = lambda A: jnp.sum(linalgx.det(A))
    assert jax.grad(f)(A).shape == A.shape
    assert jax.hessian(f)(A).shape == A.shape + A.shape
    assert jax.jvp(linalgx.det, (A,), (A,))[1].shape == (0,)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("second", ["row", "multiple", "column"])
def test_two_rows_alike(second, dtype, rng) -> None:
    """The two products are the same number: no rounding error of one of them is left, in any program."""
    rows = general(rng, dtype, 3000, 2)
    A = np.stack([rows, rows * np.asarray(4 if second == "multiple" else 1, dtype)], axis=1)
    A = jnp.asarray(A.swapaxes(1, 2) if second == "column" else A)
    for batch in (A, A[:100], *A[:3]):
        for wrapped in (lambda f: f, jax.jit):
            assert not np.any(wrapped(linalgx.det)(batch))
            inverse, info = wrapped(linalgx.inv_ex)(batch)
            assert np.all(np.asarray(info) == 2)
            assert np.all(np.isnan(inverse))
            if dtype != "complex64":
                sign, logabsdet = wrapped(linalgx.slogdet)(batch)
                assert not np.any(sign)
                assert np.all(np.asarray(logabsdet) == -np.inf)


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_few_rows_in_single_precision(dtype, x64, rng) -> None:
    """The determinant is rounded once, wherever its products lie, and the inverse of two rows is as precise."""
    eps = float(np.finfo(dtype).eps)
    last = jax.vmap(linalgx.det, in_axes=-1)
    functions = linalgx.det, jax.jit(linalgx.det), jax.vmap(linalgx.det), lambda A: last(A.transpose(1, 2, 0))
    with jax.enable_x64(x64):
        for n in (2, 3):
            A = (general(rng, dtype, 200, n, n) * 10.0 ** rng.integers(-10, 11, (200, n, n))).astype(dtype)
            for function in functions:
                delta = function(jnp.asarray(A))
                assert delta.dtype == dtype
                in_range = [_leibniz(a) for a in A.astype(np.promote_types(dtype, "float64"))]
                np.testing.assert_allclose(delta, in_range, rtol=2 * eps)
        close = np.array([[1 + eps, 1], [1, 1 - eps]], dtype)
        np.testing.assert_array_equal(linalgx.det(jnp.asarray(close)), np.asarray(-(eps**2), dtype))
        inverse = [[-(1 - eps) / eps**2, 1 / eps**2], [1 / eps**2, -(1 + eps) / eps**2]]
        for inv in (linalgx.inv, lambda A: jax.vmap(linalgx.inv, in_axes=-1)(A[..., None])[0]):
            np.testing.assert_allclose(inv(jnp.asarray(close)), inverse, rtol=eps)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_singular_logarithm(dtype) -> None:
    A = jnp.array([[1, 2], [2, 4]], dtype)
    sign, logabsdet = linalgx.slogdet(A)
    assert sign == 0
    assert logabsdet == -jnp.inf
    assert jnp.real(linalgx.logdet(A)) == -jnp.inf
    assert jnp.isnan(jax.grad(lambda a: linalgx.slogdet(a).logabsdet)(A)).all()


def test_negative_logdet_is_nan_and_so_is_its_gradient() -> None:
    A = jnp.stack([jnp.diag(jnp.array([1.0, -1.0])), jnp.eye(2)])
    assert jnp.isnan(linalgx.logdet(A)).tolist() == [True, False]
    gradient = jax.vmap(jax.grad(linalgx.logdet))(A)
    assert jnp.isnan(gradient[0]).all()
    np.testing.assert_allclose(gradient[1], np.eye(2), atol=tolerance("float64", 2))


def test_unused_sign_and_unused_logarithm(rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "complex128", 4, 4))
    X = np.linalg.inv(A)
    of_log = jax.grad(lambda a: linalgx.slogdet(a).logabsdet)(A)
    np.testing.assert_allclose(of_log, X.T, atol=tolerance("float64", 4, 10))
    of_sign = jax.grad(lambda a: jnp.real(linalgx.slogdet(a).sign))(A)
    sign = np.linalg.slogdet(A).sign
    # d Re sigma = -Im(sigma) Im tr(X dA) = Re tr(i Im(sigma) X dA)
    np.testing.assert_allclose(of_sign, 1j * sign.imag * X.T, atol=tolerance("float64", 4, 10))
    real = jnp.real(A)
    assert not jax.grad(lambda a: linalgx.slogdet(a).sign)(real).any()


def test_torch_agrees(rng) -> None:
    torch = pytest.importorskip("torch")
    A = well_conditioned(rng, "complex128", 5, 5)
    x = torch.tensor(A, requires_grad=True)
    sign, logabsdet = torch.linalg.slogdet(x)
    (sign.real + logabsdet + torch.linalg.det(x).imag).backward()

    def f(a):
        ours = linalgx.slogdet(a)
        return jnp.real(ours.sign) + ours.logabsdet + jnp.imag(linalgx.det(a))

    np.testing.assert_allclose(
        np.conj(jax.grad(f)(jnp.asarray(A))), x.grad.resolve_conj().numpy(), atol=tolerance("float64", 5, 100)
    )


@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_pivots_at_the_ends_of_the_range(dtype, kernel) -> None:
    """Products of them leave the range on the way, in either order; the determinant does not."""
    limits = jnp.finfo(dtype)
    top = 2.0 ** (limits.maxexp - 1)
    pivots = [[1.9 * top, 1.3 * top, 2 / top, 2.1 / top, 3], [4 / top, 2.5 / top, 1.4 * top, 1.01 * top, 0.7]]
    a = jnp.stack([jnp.diag(jnp.asarray(d, dtype)) for d in pivots])
    with prefer(kernel):
        ours = jax.jit(linalgx.det)(a)
    np.testing.assert_allclose(ours, [1.9 * 1.3 * 2 * 2.1 * 3, 4 * 2.5 * 1.4 * 1.01 * 0.7], rtol=20 * limits.eps)
