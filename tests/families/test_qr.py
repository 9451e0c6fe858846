"""The QR decomposition where the table cannot go: at LAPACK's jumps, at dependent columns, next to bad members."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._kernels.select import prefer
from tests.operations.case import assert_close, tolerance
from tests.operations.inputs import general, well_conditioned

fields = pytest.mark.parametrize("dtype", ["float64", "complex128"])
scales = pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])


def _triangular_on_top(rng, dtype, m, n):
    """[R; 0] with a real diagonal of both signs: LAPACK has nothing to reflect, all tau are 0."""
    R = np.triu(0.4 * general(rng, dtype, n, n), 1) + np.diag(np.linspace(1, 2, n) * (-1.0) ** np.arange(n))
    return np.concatenate([R, np.zeros((m - n, n))]).astype(dtype)


def _first_column_done(rng, dtype, m, n):
    """Only the first column has nothing to reflect."""
    A = well_conditioned(rng, dtype, m, n)
    A[0, 0], A[1:, 0] = -1.5, 0
    return A


AT_JUMPS = {"all": _triangular_on_top, "first": _first_column_done}
jumps = pytest.mark.parametrize("where", list(AT_JUMPS))


def _nestings(f, A, u, v):
    pair = lambda g, d: jnp.real(jnp.sum(g * d))
    slope = lambda x: jax.jvp(f, (x,), (u,))[1]
    gradient = jax.grad(f)
    return {
        "fwd(fwd)": lambda: jax.jvp(slope, (A,), (v,))[1],
        "fwd(rev)": lambda: pair(jax.jvp(gradient, (A,), (v,))[1], u),
        "rev(fwd)": lambda: pair(jax.grad(slope)(A), v),
        "rev(rev)": lambda: pair(jax.grad(lambda x: pair(gradient(x), u))(A), v),
    }


def _by_cholesky(A, signs):
    """Q and R from R^H R = A^H A, with the given signs of the rows of R: smooth at LAPACK's jumps."""
    R = signs[:, None] * jnp.conj(jnp.linalg.cholesky(jnp.conj(A.T) @ A)).T
    return A @ jnp.linalg.inv(R), R


def _of_complete(rng, dtype, m, n, scale=1.0):
    """A function of the complete decomposition, and the same of the reduced Q and R: free of the choice of Q2."""
    C, D, E = (jnp.asarray(general(rng, dtype, *shape)) for shape in ((m, m), (n, n), (m, n)))

    def of_parts(Q1, projector, R):
        terms = (C * projector, D * R / scale, E * Q1, (Q1 / 2) ** 3)
        return sum(jnp.sum(jnp.real(term)) for term in terms) + jnp.sum(jnp.real(projector @ C) ** 2)

    def ours(A):
        Q, R = linalgx.qr(A, mode="complete")
        return of_parts(Q[:, :n], Q[:, n:] @ jnp.conj(Q[:, n:].T), R[:n])

    def reference(signs):
        def f(A):
            Q1, R = _by_cholesky(A, signs)
            return of_parts(Q1, jnp.eye(m, dtype=A.dtype) - Q1 @ jnp.conj(Q1.T), R)

        return f

    return ours, reference


def _derivatives(f, A, u):
    """Value, gradient, and derivative along u, compiled once."""
    return jax.jit(lambda A, u: (*jax.value_and_grad(f)(A), jax.jvp(f, (A,), (u,))[1]))(A, u)


@fields
@jumps
@scales
def test_complete_where_lapack_jumps(where, scale, dtype, rng) -> None:
    A = jnp.asarray(AT_JUMPS[where](rng, dtype, 5, 3) * np.asarray(scale, dtype))
    u = jnp.asarray(general(rng, dtype, 5, 3)) * jnp.asarray(scale, dtype)
    ours, reference = _of_complete(rng, dtype, 5, 3, scale)
    signs = jnp.sign(jnp.real(jnp.diagonal(linalgx.qr(A).R))).astype(dtype)
    assert_close(_derivatives(ours, A, u), _derivatives(reference(signs), A, u), tolerance(dtype, 5, 100))


@pytest.mark.parametrize(("where", "dtype"), [("all", "float64"), ("first", "complex128")])
def test_second_derivative_of_complete_where_lapack_jumps(where, dtype, rng) -> None:
    A = jnp.asarray(AT_JUMPS[where](rng, dtype, 5, 3))
    u, v = (jnp.asarray(general(rng, dtype, 5, 3)) for _ in range(2))
    ours, reference = _of_complete(rng, dtype, 5, 3)
    signs = jnp.sign(jnp.real(jnp.diagonal(linalgx.qr(A).R))).astype(dtype)
    expected = jax.jit(_nestings(reference(signs), A, u, v)["fwd(fwd)"])()
    for name, nesting in _nestings(ours, A, u, v).items():
        assert_close(jax.jit(nesting)(), expected, tolerance(dtype, 5, 1000), name)


def test_complete_at_a_triangular_matrix_in_single_precision(rng) -> None:
    A = jnp.asarray(_triangular_on_top(rng, "float32", 5, 3))
    ours, reference = _of_complete(rng, "float32", 5, 3)
    signs = jnp.sign(jnp.diagonal(A))
    assert_close(_derivatives(ours, A, A), _derivatives(reference(signs), A, A), tolerance("float32", 5, 100))


@fields
def test_complete_in_directions_that_keep_the_column_done(dtype, rng) -> None:
    """Along these, LAPACK's Q is smooth although a tau is 0, and the derivative of Q2 is its own."""
    A = _first_column_done(rng, dtype, 5, 3)
    u = general(rng, dtype, 5, 3)
    u[:, 0] = 0
    h = 1e-4
    at = [np.linalg.qr(A + k * h * u, mode="complete").Q for k in (-2, -1, 1, 2)]
    expected = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
    dQ = jax.jvp(lambda x: linalgx.qr(x, mode="complete").Q, (jnp.asarray(A),), (jnp.asarray(u),))[1]
    assert np.max(np.abs(dQ - expected)) < 1e-9


@fields
@jumps
def test_reflections_next_to_a_jump(where, dtype, rng) -> None:
    """The vectors are smooth at tau = 0; next to it R has one sign, at it the other: its derivative is the latter's."""
    A = AT_JUMPS[where](rng, dtype, 5, 3)
    u = general(rng, dtype, 5, 3)
    h = 1e-4
    at = [np.linalg.qr(A + k * h * u, mode="raw")[0].T for k in (-2, -1, 1, 2)]
    expected = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
    (packed, _), (moved, dtau) = jax.jvp(linalgx.geqrf, (jnp.asarray(A),), (jnp.asarray(u),))
    flipped = np.sign(np.real(np.diag(packed)) * np.real(np.diag(at[0])))
    assert -1 in flipped
    below = np.tril(np.ones((5, 3)), -1)
    error = np.asarray(moved) - expected
    assert np.max(np.abs(below * error)) < 1e-8
    expected[:3] *= flipped[:, None]
    error = np.asarray(moved) - expected
    assert np.max(np.abs((1 - below) * error)) < 1e-8
    assert np.all(np.isfinite(dtau))
    gradient = jax.grad(lambda x: sum(jnp.sum(jnp.real(y) ** 2) for y in linalgx.geqrf(x)))(jnp.asarray(A))
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5)], ids=str)
@scales
def test_real_square_matrix_with_a_dependent_last_column(shape, scale, rng) -> None:
    """Q and R of a real matrix pass smoothly through R_kk = 0."""
    m, n = shape
    A = general(rng, "float64", m, n)
    A[:, m - 1] = 0
    u = general(rng, "float64", m, n)
    h = 1e-3
    at = [np.linalg.qr(A + k * h * u) for k in (-3, -2, -1, 1, 2, 3)]
    weights = np.array([-1, 9, -45, 45, -9, 1]) / (60 * h)
    expected = [sum(w * x[i] for w, x in zip(weights, at, strict=True)) for i in range(2)]
    A, u = jnp.asarray(A * scale), jnp.asarray(u * scale)
    dQ, dR = jax.jvp(linalgx.qr, (A,), (u,))[1]
    assert np.max(np.abs(dQ - expected[0])) < 1e-9
    assert np.max(np.abs(dR / scale - expected[1])) < 1e-9
    f = lambda x: sum(jnp.sum(y**3) for y in linalgx.qr(x))
    second = [float(jax.jit(nesting)()) for nesting in _nestings(f, A, u, u).values()]
    assert np.all(np.isfinite(second))
    np.testing.assert_allclose(second, second[0], rtol=1e-10)


@fields
@pytest.mark.parametrize("shape", [(4, 4), (3, 5)], ids=str)
@pytest.mark.parametrize("column", [0, 1, 2])
def test_product_of_the_factors_of_a_singular_matrix(shape, column, dtype, rng) -> None:
    """Whatever Q is, Q R is A: also where a zero column leaves Q to chance, for m <= n."""
    A = general(rng, dtype, *shape)
    A[:, column] = 0
    C = jnp.asarray(general(rng, dtype, *shape))

    def f(x):
        Q, R = linalgx.qr(x)
        return jnp.sum(jnp.real(C * (Q @ R)))

    assert_close(jax.grad(f)(jnp.asarray(A)), C, tolerance(dtype, 5, 100))
    u = jnp.asarray(general(rng, dtype, *shape))
    assert_close(jax.jvp(f, (jnp.asarray(A),), (u,))[1], jnp.sum(jnp.real(C * u)), tolerance(dtype, 5, 100))


@pytest.mark.parametrize("mode", ["reduced", "complete", "r"])
def test_tall_matrix_with_a_dependent_column_has_no_silent_derivative(mode, rng) -> None:
    """It has none, so NaN; and the next member of the batch does not notice."""
    good = well_conditioned(rng, "float64", 4, 2)
    bad = good.copy()
    bad[:, 1] = 0
    f = lambda x: sum(jnp.sum(jnp.cos(y)) for y in jax.tree.leaves(linalgx.qr(x, mode=mode)))
    gradient = jax.grad(lambda x: jnp.sum(jax.vmap(f)(x)))(jnp.asarray(np.stack([bad, good])))
    assert not np.all(np.isfinite(gradient[0]))
    assert_close(gradient[1], jax.grad(f)(jnp.asarray(good)), tolerance("float64", 4, 100))


@pytest.mark.parametrize("mode", ["reduced", "complete", "r", "raw"])
@pytest.mark.parametrize("shape", [(4, 2), (3, 3), (2, 4)], ids=str)
def test_nan_stays_in_its_member(mode, shape, rng) -> None:
    A = np.stack([well_conditioned(rng, "float64", *shape) for _ in range(3)])
    A[1, 1, 0] = np.nan
    f = lambda x: sum(jnp.sum(y**2) for y in jax.tree.leaves(linalgx.qr(x, mode=mode)))
    for function in (lambda x: linalgx.qr(x, mode=mode), jax.grad(f)):
        for out in jax.tree.leaves(function(jnp.asarray(A))):
            assert np.all(np.isfinite(out[::2]))
            assert np.any(np.isnan(out[1]))


# --- products of reflections


def _one_by_one(a, tau, c, left=True, transpose=False):
    """The reflections of ``a`` applied to c in turn: differentiated by JAX."""
    m, k = a.shape[0], tau.shape[0]
    Q = jnp.eye(m, dtype=a.dtype)
    for i in range(k):
        v = jnp.where(jnp.arange(m) > i, a[:, i], (jnp.arange(m) == i).astype(a.dtype))
        Q = Q - tau[i] * jnp.outer(Q @ v, jnp.conj(v))
    Q = jnp.conj(Q.T) if transpose else Q
    return Q @ c if left else c @ Q


def _two_gradients(f, args, directions):
    """The gradient of f, and that of its derivative along the directions."""
    argnums = tuple(range(len(args)))
    along = lambda *x: jax.jvp(f, x, directions)[1]
    return jax.jit(lambda *x: (jax.grad(f, argnums)(*x), jax.grad(along, argnums)(*x)))(*args)


@fields
@pytest.mark.parametrize("kind", ["singular", "unitary", "identity"])
def test_products_of_special_reflections(kind, dtype, rng) -> None:
    """A singular reflection, tau = 1 / |v|^2, is where torch divides by zero."""
    a = general(rng, dtype, 4, 3)
    squares = 1 + np.sum(np.abs(np.tril(a, -1)) ** 2, axis=0)
    tau = {"singular": 1 / squares, "unitary": 2 / squares, "identity": 0 * squares}[kind].astype(dtype)
    args = jnp.asarray(a), jnp.asarray(tau), jnp.asarray(general(rng, dtype, 4, 2))
    w = jnp.asarray(general(rng, dtype, 4, 3))

    def bent(Q, *products):
        return sum(jnp.sum(jnp.real(w[:, : x.shape[1]] * x) ** 2) for x in (Q, *products))

    ours = lambda a, tau, c: bent(
        linalgx.householder_product(a, tau), linalgx.ormqr(a, tau, c), linalgx.ormqr(a, tau, c, transpose=True)
    )
    plain = lambda a, tau, c: bent(
        _one_by_one(a, tau, jnp.eye(4, 3, dtype=a.dtype)),
        _one_by_one(a, tau, c),
        _one_by_one(a, tau, c, transpose=True),
    )
    directions = tuple(jnp.asarray(general(rng, dtype, *x.shape)) for x in args)
    ours, plain = (_two_gradients(f, args, directions) for f in (ours, plain))
    assert_close(ours, plain, tolerance(dtype, 4, 1000))


@fields
def test_the_three_forms_of_q_agree(dtype, rng) -> None:
    A = jnp.asarray(well_conditioned(rng, dtype, 5, 3))
    w = jnp.asarray(general(rng, dtype, 5, 5))
    forms = (
        lambda x: linalgx.qr(x, mode="complete").Q,
        lambda x: linalgx.householder_product(*(lambda h, t: (jnp.pad(h, ((0, 0), (0, 2))), t))(*linalgx.geqrf(x))),
        lambda x: linalgx.ormqr(*linalgx.geqrf(x), jnp.eye(5, dtype=x.dtype)),
        lambda x: jnp.conj(linalgx.ormqr(*linalgx.geqrf(x), jnp.eye(5, dtype=x.dtype), left=False, transpose=True).T),
    )
    first, *others = (jax.jit(jax.value_and_grad(lambda x, q=q: jnp.sum(jnp.real(w * q(x)))))(A) for q in forms)
    for other in others:
        assert_close(other, first, tolerance(dtype, 5, 100))


def test_leading_axes_broadcast(rng) -> None:
    a, tau, c = (general(rng, "float64", *shape) for shape in ((2, 1, 4, 3), (3, 3), (4, 2)))
    out = linalgx.ormqr(a, tau, c)
    assert out.shape == (2, 3, 4, 2)
    for i, j in itertools.product(range(2), range(3)):
        assert_close(out[i, j], _one_by_one(jnp.asarray(a[i, 0]), jnp.asarray(tau[j]), c), tolerance("float64", 4, 10))
    assert linalgx.householder_product(a, tau).shape == (2, 3, 4, 3)


def test_real_vectors_with_complex_factors(rng) -> None:
    a, tau = jnp.asarray(general(rng, "float64", 4, 2)), jnp.asarray(general(rng, "complex128", 2))
    f = lambda a, tau: jnp.sum(jnp.abs(linalgx.householder_product(a, tau)) ** 4)
    g = lambda a, tau: jnp.sum(jnp.abs(_one_by_one(a.astype(complex), tau, jnp.eye(4, 2, dtype=complex))) ** 4)
    with jax.numpy_dtype_promotion("standard"):
        ours, plain = (jax.grad(h, (0, 1))(a, tau) for h in (f, g))
    assert ours[0].dtype == a.dtype
    assert_close(ours, plain, tolerance("float64", 4, 100))


def test_product_with_q_is_linear_in_the_matrix(rng) -> None:
    a, tau, c = (jnp.asarray(general(rng, "complex128", *shape)) for shape in ((4, 3), (3,), (4, 2)))
    transposed = jax.linear_transpose(lambda c: linalgx.ormqr(a, tau, c), c)(c)[0]
    assert_close(transposed, _one_by_one(a, tau, jnp.eye(4, dtype=complex)).T @ c, tolerance("float64", 4, 10))


# --- what is not used costs nothing


def _count(f, A):
    text = jax.jit(f).lower(A).compile().as_text()
    calls = ("dot(", "trsm_ffi", "geqrf_ffi", "orgqr_ffi")
    return {call: sum(call in line and "=" in line for line in text.splitlines()) for call in calls}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="counts LAPACK's calls")
@pytest.mark.optimized
@pytest.mark.parametrize("shape", [(24, 12), (16, 16), (12, 24)], ids=str)
def test_cost_of_a_gradient(shape, rng) -> None:
    """One factorisation, one triangular solve, three products; two if Q or R is not used."""
    A = jnp.asarray(well_conditioned(rng, "float64", *shape))
    total = lambda out: sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(out))
    both = _count(jax.grad(lambda x: total(linalgx.qr(x))), A)
    assert both == {"dot(": 3, "trsm_ffi": 1, "geqrf_ffi": 1, "orgqr_ffi": 1}
    only_r = _count(jax.grad(lambda x: total(linalgx.qr(x, mode="r"))), A)
    assert only_r == both | {"dot(": 2}
    assert _count(jax.grad(lambda x: total(linalgx.qr(x).Q)), A)["dot("] == 2
    assert _count(lambda x: linalgx.qr(x, mode="r"), A)["orgqr_ffi"] == 0
    assert _count(linalgx.geqrf, A)["orgqr_ffi"] == 0


# --- against torch


@fields
def test_gradients_of_torch(dtype, rng) -> None:
    torch = pytest.importorskip("torch")
    A = {shape: well_conditioned(rng, dtype, *shape) for shape in ((5, 3), (3, 3), (3, 5))}
    a, tau, c = (general(rng, dtype, *shape) for shape in ((4, 3), (3,), (4, 2)))
    pairs = [(linalgx.qr, torch.linalg.qr, (x,)) for x in A.values()] + [
        (linalgx.householder_product, torch.linalg.householder_product, (a, tau)),
        *(
            (lambda *x, o=o: linalgx.ormqr(*x, **o), lambda *x, o=o: torch.ormqr(*x, **o), (a, tau, c))
            for o in ({}, {"transpose": True})
        ),
    ]
    for ours, theirs, args in pairs:
        tensors = [torch.tensor(x, requires_grad=True) for x in args]
        out = theirs(*tensors)
        outs = [out] if isinstance(out, torch.Tensor) else list(out)
        weights = [general(rng, dtype, *x.shape) for x in outs]
        sum((torch.tensor(w) * x).real.sum() for w, x in zip(weights, outs, strict=True)).backward()

        def f(*x, ours=ours, weights=weights):
            leaves = jax.tree.leaves(ours(*x))
            return sum(jnp.sum(jnp.real(w * leaf)) for w, leaf in zip(weights, leaves, strict=True))

        gradient = jax.grad(f, tuple(range(len(args))))(*map(jnp.asarray, args))
        # torch gives the gradient in the pairing of the papers, JAX its conjugate
        assert_close(gradient, [x.grad.numpy().conj() for x in tensors], tolerance(dtype, 5, 100))


@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize(("dtype", "large", "small"), [("float32", 1e20, 1e-20), ("float64", 1e200, 1e-150)])
def test_small_columns_beside_large_ones(kernel, dtype, large, small) -> None:
    A = np.array([np.diag([large, small]), [[large, small], [0, 3 * small]]], dtype)
    with prefer(kernel):
        Q, R = linalgx.qr(jnp.asarray(A))
    np.testing.assert_allclose(np.abs(jnp.stack([R[:, 0, 0], R[:, 1, 1]])), [[large, large], [small, 3 * small]], 1e-6)
    np.testing.assert_allclose(np.abs(Q), [np.eye(2), np.eye(2)], atol=1e-6)


def test_half_precision_in_is_half_precision_out() -> None:
    Q, R = linalgx.qr(jnp.eye(3, 2, dtype=jnp.bfloat16))
    assert Q.dtype == R.dtype == jnp.bfloat16
