"""What the table cannot say of norms: extreme scales, zeros, ties, NaN, singular matrices."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import linalgx
from linalgx._kernels.select import prefer
from tests.operations.case import assert_close, tolerance
from tests.operations.inputs import general, unitary, well_conditioned, with_singular_values
from tests.operations.norms import MATRIX_ORDERS, VECTOR_ORDERS, away_from_kinks

INF = np.inf
SMOOTH_ORDERS = [ord for ord in VECTOR_ORDERS if ord]
SCALES = {"float32": [1e-30, 1.0, 1e30], "float64": [1e-300, 1e-200, 1.0, 1e200], "complex128": [1e-200, 1.0, 1e200]}


def _nestings(f):
    """All second derivatives of f as matrices, by every nesting of the modes, in one compiled function."""
    modes = {"fwd": jax.jacfwd, "rev": jax.jacrev}
    return jax.jit(lambda x: {f"{a}({b})": modes[a](modes[b](f))(x) for a in modes for b in modes})


# --- vectors: values


@pytest.mark.parametrize("dtype", SCALES)
@pytest.mark.parametrize("ord", VECTOR_ORDERS)
def test_value_and_gradient_at_every_scale(ord, dtype, rng) -> None:
    x = away_from_kinks(rng, dtype, 4)
    scales = np.asarray(SCALES[dtype], np.finfo(dtype).dtype)
    batch = jnp.asarray(scales[:, None] * x)
    values, pull = jax.vjp(lambda batch: linalgx.vector_norm(batch, ord=ord, axis=-1), batch)
    (gradients,) = pull(jnp.ones_like(values))
    value, gradient = jax.value_and_grad(lambda x: linalgx.vector_norm(x, ord=ord))(jnp.asarray(x))
    for i, scale in enumerate(scales):
        assert_close(values[i], value if ord == 0 else value * scale, tolerance(dtype, 4, 10))
        assert_close(gradients[i], gradient, tolerance(dtype, 4, 10))


@pytest.mark.parametrize("ord", [1.5, 2])
def test_hessian_at_every_scale(ord, rng) -> None:
    x = jnp.asarray(away_from_kinks(rng, "float64", 3))
    nestings = _nestings(lambda x: linalgx.vector_norm(x, ord=ord))
    expected = nestings(x)["fwd(rev)"]
    for scale in (1e200, 1.0, 1e-200):
        for name, hessian in nestings(x * scale).items():
            assert_close(hessian * scale, expected, tolerance("float64", 4, 10), name)


def test_far_apart_elements_against_mpmath() -> None:
    x = np.array([1e-200, 3e150, -2e-30, 1e155])
    with mpmath.workdps(40):
        for ord in (0.5, 1.5, 2, 3, 4, -1, -2.5):
            exact = mpmath.fsum(mpmath.mpf(float(abs(v))) ** ord for v in x) ** (mpmath.mpf(1) / ord)
            assert_close(linalgx.vector_norm(jnp.asarray(x), ord=ord), float(exact), tolerance("float64", 4, 4))


def test_scales_mix_in_a_batch(rng) -> None:
    x = away_from_kinks(rng, "float64", 4)
    batch = jnp.asarray(np.stack([x, 0 * x, x * 1e200, x * 1e-200, np.where(x == x[0], np.nan, x), x * INF]))
    out = linalgx.vector_norm(batch, axis=-1)
    n = np.linalg.norm(x)
    np.testing.assert_allclose(out, [n, 0, n * 1e200, n * 1e-200, np.nan, INF], rtol=tolerance("float64", 4))
    # a member is rounded as it would be alone
    assert out[0] == linalgx.vector_norm(batch[:1], axis=-1)[0]
    gradient = jax.grad(lambda b: linalgx.vector_norm(b, axis=-1).sum())(batch)
    for i, expected in ((0, x / n), (1, 0 * x), (2, x / n), (3, x / n)):
        assert_close(gradient[i], expected, tolerance("float64", 4))
    assert jnp.all(jnp.isnan(gradient[4]))
    assert_close(jax.vmap(linalgx.vector_norm)(batch), out, tolerance("float64", 4))


def test_exact_where_the_answer_is() -> None:
    assert linalgx.vector_norm(jnp.array([3.0, 4.0, 12.0])) == 13.0
    assert linalgx.vector_norm(jnp.array([3 + 4j])) == 5.0


@pytest.mark.parametrize("ord", [0.5, 1, 2, INF, -1, -INF])
def test_infinite_elements(ord) -> None:
    with np.errstate(divide="ignore"):
        for x in ([1.0, INF], [-INF, INF], [0.0, INF]):
            assert linalgx.vector_norm(jnp.array(x), ord=ord) == np.linalg.norm(np.array(x), ord)


@hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
@hypothesis.given(
    st.integers(0, 2**32 - 1), st.sampled_from([1, 1.5, 2, 3, INF]), st.sampled_from([1e-200, 1.0, 1e200])
)
def test_axioms(seed, ord, scale) -> None:
    x, y = scale * np.random.default_rng(seed).standard_normal((2, 5))
    norm = lambda x: float(linalgx.vector_norm(jnp.asarray(x), ord=ord))
    slack = 1 + tolerance("float64", 5)
    assert 0 < norm(x)
    assert norm(x + y) <= (norm(x) + norm(y)) * slack
    np.testing.assert_allclose(norm(-2.5 * x), 2.5 * norm(x), rtol=slack - 1)
    # Hoelder's inequality, with the conjugate exponent
    dual = 1 / (1 - 1 / ord) if ord not in (1, INF) else (INF if ord == 1 else 1)
    assert (
        abs(np.dot(x / scale, y / scale)) <= norm(x / scale) * float(linalgx.vector_norm(y / scale, ord=dual)) * slack
    )


# --- vectors: derivatives where the norm is not smooth


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("ord", VECTOR_ORDERS)
def test_everything_is_zero_at_zero(ord, dtype) -> None:
    zero = jnp.zeros(3, dtype)
    f = lambda x: linalgx.vector_norm(x, ord=ord)
    value, gradient = jax.value_and_grad(f)(zero)
    assert value == 0
    assert jnp.all(gradient == 0)
    if dtype == "float64":
        assert jnp.all(jax.hessian(f)(zero) == 0)


def test_every_nesting_is_zero_at_zero() -> None:
    f = lambda x: linalgx.vector_norm(x)
    zero = jnp.zeros(3)
    assert all(jnp.all(hessian == 0) for hessian in _nestings(f)(zero).values())
    assert jnp.all(jax.grad(lambda x: f(x) ** 2)(zero) == 0)
    assert jnp.all(jax.jit(jax.jacfwd(jax.hessian(f)))(zero) == 0)


@pytest.mark.parametrize("ord", SMOOTH_ORDERS)
def test_a_zero_element_spoils_nothing(ord) -> None:
    x = jnp.array([2.0, 0.0, -3.0])
    f = lambda x: linalgx.vector_norm(x, ord=ord)
    gradient = jax.grad(f)(x)
    assert gradient[1] == 0
    if ord < 0:
        assert f(x) == 0
        assert jnp.all(gradient == 0)
    else:
        others = lambda y: linalgx.vector_norm(y, ord=ord)
        assert_close(gradient[::2], jax.grad(others)(x[::2]), tolerance("float64", 3))
    assert jnp.all(jnp.isfinite(jax.jit(jax.hessian(f))(x)))


def test_even_orders_are_smooth_at_a_zero_element() -> None:
    f = lambda t: linalgx.vector_norm(jnp.stack([t, 0 * t + 1]), ord=4)
    for _ in range(4):
        f = jax.grad(f)
    # (1 + t^4)^(1/4) = 1 + t^4 / 4 + ...
    np.testing.assert_allclose(f(0.0), 6.0, rtol=tolerance("float64", 4))


@pytest.mark.parametrize(
    ("ord", "x", "expected"),
    [
        (INF, [2.0, -2.0, 1.0], [0.5, -0.5, 0.0]),
        (-INF, [2.0, -1.0, 1.0], [0.0, -0.5, 0.5]),
        (INF, [3 + 4j, 5.0, 1.0], [0.3 - 0.4j, 0.5, 0.0]),
        (1, [2.0, 0.0, -3.0], [1.0, 0.0, -1.0]),
        (1, [3 + 4j, 0.0, -1j], [0.6 - 0.8j, 0.0, 1j]),
    ],
)
def test_subgradients(ord, x, expected) -> None:
    f = lambda x: linalgx.vector_norm(x, ord=ord)
    np.testing.assert_allclose(jax.grad(f)(jnp.array(x)), expected, rtol=tolerance("float64", 3))
    expected = np.asarray(expected)
    np.testing.assert_allclose(
        jax.jvp(f, (jnp.array(x),), (jnp.conj(expected),))[1],
        np.sum(np.abs(expected) ** 2),
        rtol=tolerance("float64", 3),
    )


def test_distances_in_a_cloud_of_points(rng) -> None:
    """The gradient of the sum of all distances, where each point has distance 0 to itself."""
    x = general(rng, "float64", 4, 3)
    energy = lambda x: linalgx.norm(x[:, None] - x[None], axis=-1).sum()
    difference = x[:, None] - x[None]
    with np.errstate(invalid="ignore"):
        unit = np.nan_to_num(difference / np.linalg.norm(difference, axis=-1, keepdims=True))
    assert_close(jax.grad(energy)(jnp.asarray(x)), 2 * unit.sum(axis=1), tolerance("float64", 12))
    assert jnp.all(jnp.isfinite(jax.hessian(energy)(jnp.asarray(x))))


# --- matrices


@pytest.mark.parametrize("ord", MATRIX_ORDERS)
def test_matrix_norms_at_every_scale(ord, rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "float64", 3, 4))
    f = jax.jit(jax.value_and_grad(lambda A: linalgx.matrix_norm(A, ord=ord)))
    value, gradient = f(A)
    for scale in (1e200, 1e-200):
        scaled, scaled_gradient = f(A * scale)
        assert_close(scaled, value * scale, tolerance("float64", 4, 10))
        assert_close(scaled_gradient, gradient, tolerance("float64", 4, 100))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-6, 0.1])
def test_spectral_norms_share_ties(dtype, gap, rng) -> None:
    eps = float(jnp.finfo(dtype).eps)
    values = np.array([2 + gap, 2.0, 1.0 + gap, 1.0])
    U, V = unitary(rng, dtype, 5)[:, :4], unitary(rng, dtype, 4)
    scales = np.array([1e-8, 1.0, 1e8])
    A = jnp.asarray((scales[:, None, None] * ((U * values) @ V.conj().T)).astype(dtype))
    # to rounding, a tie is a tie; above, the rounding of the vectors is that of A divided by the gap
    tied = gap < 4 * eps
    if not tied and gap < 100 * eps:
        pytest.skip("neither a tie nor a gap that can be seen in this precision")
    largest, smallest = ([0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]) if tied else ([1, 0, 0, 0], [0, 0, 0, 1])
    for ord, weights in ((2, largest), (-2, smallest)):
        f = lambda A, ord=ord: linalgx.matrix_norm(A, ord=ord)
        expected = ((U * np.array(weights)) @ V.conj().T).astype(dtype)
        gradient = jnp.conj(jax.grad(lambda A, f=f: f(A).sum())(A))
        assert_close(gradient, np.stack([expected] * 3), tolerance(dtype, 5, 10 if tied else 10 / gap))
        np.testing.assert_allclose(f(A), scales * values[0 if ord == 2 else -1], rtol=tolerance(dtype, 5))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-6])
@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (3, 4)], ids=str)
def test_nuclear_norm_is_smooth_at_ties(dtype, gap, shape, rng) -> None:
    A = jnp.asarray(with_singular_values(rng, dtype, *shape, [2 + gap, 2.0, 2 - gap]))
    dA = jnp.asarray(general(rng, dtype, *shape))
    f = lambda A: linalgx.matrix_norm(A, ord="nuc")
    U, _, Vh = np.linalg.svd(A, full_matrices=False)
    assert_close(jnp.conj(jax.grad(f)(A)), U @ Vh, tolerance(dtype, 4, 10))
    slope = lambda t: jax.jvp(f, (A + t.astype(dtype) * dA,), (dA,))[1]
    h = 1e-3
    at = lambda k: slope(jnp.asarray(k * h))
    expected = (45 * (at(1) - at(-1)) - 9 * (at(2) - at(-2)) + (at(3) - at(-3))) / (60 * h)
    np.testing.assert_allclose(jax.grad(slope)(jnp.asarray(0.0)), expected, rtol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subgradients_of_matrix_norms_at_zero(dtype) -> None:
    zero = jnp.zeros((3, 3), dtype)
    gradient = {ord: jax.grad(lambda A, ord=ord: linalgx.matrix_norm(A, ord=ord))(zero) for ord in MATRIX_ORDERS}
    for ord in ("fro", 1, -1, INF, -INF):
        assert jnp.all(gradient[ord] == 0)
    for ord, scale in (("nuc", 1.0), (2, 1 / 3), (-2, 1 / 3)):
        # unitary up to a factor: which one is the choice of the singular vectors of zero
        G = gradient[ord]
        assert_close(G @ G.T, scale**2 * jnp.eye(3, dtype=dtype), tolerance(dtype, 3))
    assert jnp.all(jax.hessian(linalgx.matrix_norm)(zero) == 0)


def test_column_and_row_sums_that_tie() -> None:
    A = jnp.array([[1.0, -2.0], [3.0, 2.0]])
    np.testing.assert_allclose(jax.grad(lambda A: linalgx.matrix_norm(A, ord=1))(A), [[0.5, -0.5], [0.5, 0.5]])
    np.testing.assert_allclose(jax.grad(lambda A: linalgx.matrix_norm(A.T, ord=-INF))(A), [[0.5, -0.5], [0.5, 0.5]])


@pytest.mark.parametrize("ord", [1, -1, INF, -INF])
@pytest.mark.parametrize("dtype", ["float64", "complex64", "complex128"])
def test_gradients_find_the_sum_that_is_the_norm(dtype, ord, rng) -> None:
    """The compiler may round a sum in one way for the norm and in another for its derivative."""
    A, shift = jnp.asarray(general(rng, dtype, 500, 3, 3)), jnp.asarray(general(rng, dtype, 3, 3))
    gradient = jax.jit(jax.vmap(jax.grad(lambda A: linalgx.matrix_norm(A + shift, ord=ord))))
    # the entries of one row or column have modulus 1
    assert_close(jnp.sum(jnp.abs(gradient(A)), axis=(-2, -1)), np.full(500, 3.0), tolerance(dtype, 3))


@pytest.mark.parametrize("ord", MATRIX_ORDERS)
def test_nan_in_one_matrix_spoils_it_alone(ord, rng) -> None:
    A = well_conditioned(rng, "float64", 3, 3)
    bad = A.copy()
    bad[1, 1] = np.nan
    batch = jnp.asarray(np.stack([A, bad]))
    for f in (lambda A: linalgx.matrix_norm(A, ord=ord), lambda A: linalgx.cond(A, ord)):
        out, gradient = f(batch), jax.grad(lambda A, f=f: f(A)[0])(batch)
        assert_close(out[0], f(batch[0]), tolerance("float64", 3, 10))
        assert jnp.isnan(out[1])
        assert_close(gradient[0], jax.grad(f)(batch[0]), tolerance("float64", 3, 100))


@pytest.mark.parametrize("ord", [1, -1, 2, INF, -INF])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_one_nan_is_never_lost(dtype, ord, rng) -> None:
    """Wherever it stands: XLA may find the largest number of many without it."""
    for count, n in ((1, 4096), (100, 1089), (1000, 33), (5000, 8)):
        x = general(rng, dtype, count, n)
        x[np.arange(count), rng.integers(0, n, count)] = np.nan
        assert jnp.isnan(linalgx.vector_norm(jnp.asarray(x), axis=1, ord=ord)).all(), (count, n)
        assert jnp.isnan(linalgx.vector_norm(jnp.asarray(x.T), axis=0, ord=ord)).all(), (count, n)
    for count, n in ((1, 64), (100, 33), (3000, 8)):
        A = general(rng, dtype, count, n, n)
        A[np.arange(count), rng.integers(0, n, count), rng.integers(0, n, count)] = np.nan
        assert jnp.isnan(linalgx.matrix_norm(jnp.asarray(A), ord=ord)).all(), (count, n)


@pytest.mark.parametrize("ord", VECTOR_ORDERS)
def test_one_nan_among_zeros(ord) -> None:
    for n in (5, 1089):
        assert jnp.isnan(linalgx.vector_norm(jnp.zeros(n).at[n // 2].set(jnp.nan), ord=ord)) or ord == 0


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_condition_with_infinities(dtype) -> None:
    A = jnp.array([[[INF, 0], [0, 1]], [[1, 0], [0, 2]], [[1, INF], [INF, 1]]], dtype)
    for p in (None, 2, "nuc"):
        assert np.isinf(linalgx.cond(A, p)).tolist() == [True, False, True]
    np.testing.assert_array_equal(linalgx.cond(A, -2), np.array([0, 0.5, 0], "float32"))
    np.testing.assert_array_equal(linalgx.cond(A, "f"), linalgx.cond(A, "fro"))


def test_norm_takes_matrices_from_any_two_axes(rng) -> None:
    x = general(rng, "complex128", 2, 3, 4)
    for axes in ((1, 0), (-1, 0)):
        for ord in MATRIX_ORDERS:
            ours = linalgx.norm(jnp.asarray(x), ord, axes)
            assert_close(ours, np.linalg.norm(x, ord, axes), tolerance("float64", 4, 10), f"{ord} {axes}")


def test_norm_of_scalars_and_one_axis_in_a_tuple() -> None:
    assert linalgx.norm(jnp.asarray(-2.0)) == 2
    assert linalgx.norm(jnp.array([3.0, 4.0]), axis=(0,)) == 5
    assert linalgx.norm(jnp.ones((2, 3, 4)), keepdims=True).shape == (1, 1, 1)
    assert linalgx.norm(jnp.ones((2, 2)), "f") == 2


def test_norm_of_any_number_of_axes_as_torch_has_it(rng) -> None:
    x = general(rng, "complex128", 2, 3, 4, 5)
    for axes in ((0, 1, 3), [-1, 0, 1], (0, 1, 2, 3), [2, 3], [1]):
        expected = np.sqrt(np.sum(np.abs(x) ** 2, axis=tuple(axes)))
        assert_close(linalgx.norm(jnp.asarray(x), axis=axes), expected, tolerance("float64", 4, 10), f"{axes}")
        assert_close(linalgx.vector_norm(jnp.asarray(x), axis=axes), expected, tolerance("float64", 4, 10), f"{axes}")
    assert linalgx.norm(jnp.ones((2, 3, 4)), axis=(0, 1, 2), keepdims=True).shape == (1, 1, 1)


# --- condition and rank


@pytest.mark.parametrize("p", MATRIX_ORDERS)
def test_condition_of_singular_members(p, rng) -> None:
    A = well_conditioned(rng, "float64", 2, 2)
    batch = jnp.asarray(np.stack([A, np.diag([1.0, 0.0]), np.zeros((2, 2)), np.full((2, 2), np.nan)]))
    singular = 0.0 if p == -2 else INF
    np.testing.assert_array_equal(linalgx.cond(batch, p)[1:], [singular, singular, np.nan])
    assert jnp.isfinite(linalgx.cond(batch, p)[0])
    gradient = jax.grad(lambda x: linalgx.cond(x, p).sum())(batch)
    assert_close(gradient[0], jax.grad(lambda x: linalgx.cond(x, p))(batch[0]), tolerance("float64", 2, 100))
    assert not jnp.any(jnp.isfinite(gradient[2]))


@pytest.mark.parametrize("p", MATRIX_ORDERS)
def test_condition_has_no_scale(p, rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "float64", 3, 3))
    f = jax.jit(jax.value_and_grad(lambda A: linalgx.cond(A, p)))
    value, gradient = f(A)
    for scale in (1e-150, 1e150):
        scaled, scaled_gradient = f(A * scale)
        assert_close(scaled, value, tolerance("float64", 3, 100))
        assert_close(scaled_gradient * scale, gradient, tolerance("float64", 3, 1000))


@pytest.mark.parametrize("p", [1, -1, "fro", INF, -INF, -2])
def test_condition_of_a_singular_matrix_has_no_derivative(p) -> None:
    A = jnp.zeros((2, 2)) if p == -2 else jnp.array([[1.0, 2.0], [2.0, 4.0]])
    value, tangent = jax.jvp(lambda A: linalgx.cond(A, p), (A,), (jnp.eye(2),))
    assert value == (0 if p == -2 else INF)
    assert np.isnan(tangent)
    assert np.all(np.isnan(jax.grad(lambda A: linalgx.cond(A, p))(A)))


def test_condition_is_one_where_all_singular_values_tie(rng) -> None:
    Q = jnp.asarray(unitary(rng, "float64", 3))
    value, gradient = jax.value_and_grad(linalgx.cond)(Q)
    np.testing.assert_allclose(value, 1, rtol=tolerance("float64", 3))
    # at its minimum: both subgradients are U V^H / 3
    assert jnp.max(jnp.abs(gradient)) <= tolerance("float64", 3, 10)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_rank_at_every_scale(dtype, rng) -> None:
    values = np.linspace(2, 1, 3)
    A = np.stack([with_singular_values(rng, dtype, 4, 3, values[:rank]) for rank in range(4)])
    A = A * np.array([1e-8, 1, 1e8]).astype(dtype)[:, None, None, None]
    ranks = np.broadcast_to(np.arange(4), (3, 4))
    np.testing.assert_array_equal(linalgx.matrix_rank(jnp.asarray(A)), ranks)
    np.testing.assert_array_equal(linalgx.matrix_rank(jnp.asarray(A @ A.conj().mT), hermitian=True), ranks)


@pytest.mark.parametrize("ord", [*SMOOTH_ORDERS, "matrix"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_norms_next_to_the_largest_number(ord, dtype, rng) -> None:
    """Value and gradient are those of smaller numbers: the reciprocal of such a norm is no normal number."""
    limits = jnp.finfo(dtype)
    norm = linalgx.matrix_norm if ord == "matrix" else functools.partial(linalgx.vector_norm, ord=ord)
    # so that the largest number is not the norm, but near
    x = np.stack([away_from_kinks(rng, dtype, 2, 3), np.ones((2, 3), dtype)])
    small = x / np.asarray([float(norm(jnp.asarray(y))) + np.abs(y).max() for y in x])[:, None, None].astype(dtype)
    unit = 2.0 ** (limits.maxexp - 1)
    f = jax.vmap(jax.value_and_grad(lambda x: norm(x)))
    (value, gradient), (expected, direction) = f(jnp.asarray(small * unit, dtype)), f(jnp.asarray(small, dtype))
    assert_close(np.asarray(value) / unit, expected, tolerance(dtype, 10))
    assert_close(gradient, direction, tolerance(dtype, 100))


@pytest.mark.parametrize(
    "norm",
    [linalgx.norm, linalgx.vector_norm, linalgx.matrix_norm, functools.partial(linalgx.vector_norm, ord=0)],
    ids=["norm", "vector_norm", "matrix_norm", "count"],
)
def test_dtype_is_that_of_the_computation(norm) -> None:
    x = jnp.full((30, 30), 3, jnp.float16)
    for dtype, result in (
        ("float64", "float64"),
        ("float32", "float32"),
        ("bfloat16", "bfloat16"),
        ("complex128", "float64"),
    ):
        for given in (x, x.astype(int)):
            assert norm(given, dtype=dtype).dtype == result
    assert float(norm(1e-3 * jnp.ones((2, 2), jnp.float64) + 1, dtype=jnp.float16)) == float(
        norm(jnp.asarray(1e-3 * np.ones((2, 2)) + 1, jnp.float16))
    )
    assert norm(x.astype(complex), dtype=jnp.complex64).dtype == jnp.float32
    for given, dtype in ((x.astype(complex), jnp.float32), (x, jnp.int32)):
        with pytest.raises(TypeError, match=r"linalgx\.\w+: x of dtype \w+ has no norm in dtype"):
            norm(given, dtype=dtype)


def test_rank_tolerances_as_torch_has_them() -> None:
    S = jnp.diag(jnp.array([4.0, 2.0, 1.0, 1e-20]))
    rank = lambda **options: int(linalgx.matrix_rank(S, **options))
    assert [rank(), rank(rtol=0.3), rank(rtol=0.5), rank(atol=1.5), rank(tol=1.5)] == [3, 2, 1, 2, 2]
    assert rank(atol=1.5, rtol=0.6) == 1
    assert rank(atol=3, rtol=0.1) == 1
    # a positive absolute tolerance sets the relative one to zero
    assert rank(atol=1e-300) == 4
    assert rank(atol=0.0) == 3
    # NumPy's tolerance is the only one
    assert rank(tol=0.0) == int(np.linalg.matrix_rank(np.asarray(S), tol=0.0)) == 4
    np.testing.assert_array_equal(linalgx.matrix_rank(jnp.stack([S, S]), tol=jnp.array([0.0, 1.5])), [4, 2])
    np.testing.assert_array_equal(linalgx.matrix_rank(S, rtol=jnp.array([0.1, 0.3, 0.6])), [3, 2, 1])
    np.testing.assert_array_equal(linalgx.matrix_rank(jnp.stack([S, S]), atol=jnp.array([0.5, 3.0])), [3, 1])


@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_hermitian_parts_of_the_largest_numbers(kernel, dtype) -> None:
    """No sum of two entries is formed on the way."""
    A = jnp.asarray(0.7 * float(jnp.finfo(dtype).max) * np.array([np.diag([1, 0.5]), np.diag([1, -0.25])]), dtype)
    with prefer(kernel):
        assert linalgx.matrix_rank(A, hermitian=True).tolist() == [2, 2]
        assert jnp.isfinite(linalgx.pinv(A, hermitian=True)).all()
        for symmetrize_input in (True, False):
            L = linalgx.cholesky(A[0], symmetrize_input=symmetrize_input)
            np.testing.assert_allclose(L @ L.T, A[0], rtol=tolerance(dtype, 2))


def test_rank_of_what_is_no_matrix_of_numbers() -> None:
    bad = jnp.stack([jnp.eye(2), jnp.full((2, 2), jnp.nan), jnp.diag(jnp.array([INF, 1.0]))])
    np.testing.assert_array_equal(linalgx.matrix_rank(bad), [2, -1, -1])
    np.testing.assert_array_equal(linalgx.matrix_rank(bad, hermitian=True), [2, -1, -1])
    assert linalgx.matrix_rank(jnp.array([0.0, jnp.nan])) == -1
    assert [int(linalgx.matrix_rank(jnp.asarray(x))) for x in (0.0, 2.0)] == [0, 1]
    assert linalgx.matrix_rank(jnp.zeros((2, 0, 3))).shape == (2,)


def test_rank_costs_no_singular_vectors_under_differentiation() -> None:
    jaxpr = str(jax.make_jaxpr(jax.grad(lambda A: linalgx.matrix_rank(A).astype(A.dtype) * A.sum()))(jnp.eye(2)))
    assert "linalgx_svdvals" in jaxpr
    assert "linalgx_svd[" not in jaxpr


# --- torch, where it is right


@pytest.mark.parametrize("p", [2, -2, "nuc"])
def test_torch_agrees_on_cond(p, rng) -> None:
    torch = pytest.importorskip("torch")
    A = well_conditioned(rng, "float64", 3, 3)
    theirs = torch.tensor(A, requires_grad=True)
    torch.linalg.cond(theirs, p).backward()
    assert_close(
        jax.grad(lambda A: linalgx.cond(A, p))(jnp.asarray(A)), theirs.grad.numpy(), tolerance("float64", 3, 100)
    )


@pytest.mark.parametrize("ord", VECTOR_ORDERS)
def test_torch_agrees_on_subgradients(ord) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([[2.0, -2.0, 1.0], [0.0, 3.0, -1.0], [0.0, 0.0, 0.0]])
    theirs = torch.tensor(x, requires_grad=True)
    value = torch.linalg.vector_norm(theirs, ord, dim=-1)
    f = lambda x: linalgx.vector_norm(x, ord=ord, axis=-1)
    assert_close(f(jnp.asarray(x)), value.detach().numpy(), tolerance("float64", 3))
    if ord:
        value.sum().backward()
        assert_close(jax.grad(lambda x: f(x).sum())(jnp.asarray(x)), theirs.grad.numpy(), tolerance("float64", 3))
