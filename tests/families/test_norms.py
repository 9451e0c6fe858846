"""What the table cannot say of norms: extreme scales, zeros, ties, NaN, singular matrices."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import linalgx
from linalgx._core.operation import Operation
from tests.operations.case import assert_close, tolerance
from tests.operations.inputs import general, unitary, well_conditioned, with_singular_values
from tests.operations.norms import MATRIX_ORDERS, VECTOR_ORDERS, away_from_kinks

INF = np.inf
SMOOTH_ORDERS = [ord for ord in VECTOR_ORDERS if ord]
SCALES = [("float64", 1e200), ("float64", 1e-200), ("float64", 1e-300), ("float32", 1e30), ("float32", 1e-30)]
scales = pytest.mark.parametrize(("dtype", "scale"), SCALES, ids=str)


def _nestings(f, x):
    """All second derivatives of f as matrices, by every nesting of the modes."""
    modes = {"fwd": jax.jacfwd, "rev": jax.jacrev}
    return {f"{a}({b})": modes[a](modes[b](f))(x) for a in modes for b in modes}


# --- vectors: values


@scales
@pytest.mark.parametrize("ord", VECTOR_ORDERS)
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_value_and_gradient_at_every_scale(ord, kind, dtype, scale, rng) -> None:
    dtype = dtype if kind == "real" else {"float32": "complex64", "float64": "complex128"}[dtype]
    x = jnp.asarray(away_from_kinks(rng, dtype, 4))
    f = lambda x: linalgx.vector_norm(x, ord=ord)
    value, gradient = jax.value_and_grad(f)(x)
    scaled_value, scaled_gradient = jax.value_and_grad(f)(x * scale)
    exact = value if ord == 0 else value * scale
    assert_close(scaled_value, exact, tolerance(dtype, 4, 10))
    assert_close(scaled_gradient, gradient, tolerance(dtype, 4, 10))


@scales
def test_hessian_at_every_scale(dtype, scale, rng) -> None:
    x = jnp.asarray(away_from_kinks(rng, dtype, 3))
    for ord in (2, 3, 4):
        f = lambda x, ord=ord: linalgx.vector_norm(x, ord=ord)
        expected = jax.hessian(f)(x)
        if not np.all(np.isfinite(np.float32(1 / scale) if dtype == "float32" else 1 / scale)):
            continue
        for name, hessian in _nestings(f, x * scale).items():
            assert_close(hessian * scale, expected, tolerance(dtype, 4, 10), name)


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
    if dtype != "complex128":
        assert all(jnp.all(hessian == 0) for hessian in _nestings(f, zero).values())
        assert jnp.all(jax.grad(lambda x: f(x) ** 2)(zero) == 0)
        assert jnp.all(jax.jacfwd(jax.hessian(f))(zero) == 0)


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
    for hessian in _nestings(f, x).values():
        assert jnp.all(jnp.isfinite(hessian))


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
@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_matrix_norms_at_every_scale(ord, scale, rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "float64", 3, 4))
    f = lambda A: linalgx.matrix_norm(A, ord=ord)
    (value, gradient), (scaled, scaled_gradient) = (jax.value_and_grad(f)(B) for B in (A, A * scale))
    assert_close(scaled, value * scale, tolerance("float64", 4, 10))
    assert_close(scaled_gradient, gradient, tolerance("float64", 4, 100))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-6, 0.1])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_spectral_norms_share_ties(dtype, gap, scale, rng) -> None:
    eps = float(jnp.finfo(dtype).eps)
    values = np.array([2 + gap, 2.0, 1.0 + gap, 1.0])
    U, V = unitary(rng, dtype, 5)[:, :4], unitary(rng, dtype, 4)
    A = jnp.asarray(((U * values) @ V.conj().T * scale).astype(dtype))
    # to rounding, a tie is a tie; above, the rounding of the vectors is that of A divided by the gap
    tied = gap < 4 * eps
    if not tied and gap < 100 * eps:
        pytest.skip("neither a tie nor a gap that can be seen in this precision")
    for ord, weights in (
        (2, [0.5, 0.5, 0, 0] if tied else [1, 0, 0, 0]),
        (-2, [0, 0, 0.5, 0.5] if tied else [0, 0, 0, 1]),
    ):
        f = lambda A, ord=ord: linalgx.matrix_norm(A, ord=ord)
        expected = (U * weights) @ V.conj().T
        assert_close(jnp.conj(jax.grad(f)(A)), expected.astype(dtype), tolerance(dtype, 5, 10 if tied else 10 / gap))
        np.testing.assert_allclose(f(A), scale * values[0 if ord == 2 else -1], rtol=tolerance(dtype, 5))


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


def test_norm_takes_matrices_from_any_two_axes(rng) -> None:
    x = general(rng, "complex128", 2, 3, 4)
    for axes in ((0, 1), (1, 0), (-1, 0), (2, 1)):
        for ord in MATRIX_ORDERS:
            ours = linalgx.norm(jnp.asarray(x), ord, axes)
            assert_close(ours, np.linalg.norm(x, ord, axes), tolerance("float64", 4, 10), f"{ord} {axes}")


def test_norm_of_scalars_and_one_axis_in_a_tuple() -> None:
    assert linalgx.norm(jnp.asarray(-2.0)) == 2
    assert linalgx.norm(jnp.array([3.0, 4.0]), axis=(0,)) == 5
    assert linalgx.norm(jnp.ones((2, 3, 4)), keepdims=True).shape == (1, 1, 1)
    assert linalgx.norm(jnp.ones((2, 2)), "f") == 2


# --- condition and rank


@pytest.mark.parametrize("p", [None, *MATRIX_ORDERS])
def test_condition_of_singular_members(p, rng) -> None:
    A = well_conditioned(rng, "float64", 2, 2)
    batch = jnp.asarray(np.stack([A, np.diag([1.0, 0.0]), np.zeros((2, 2)), np.full((2, 2), np.nan)]))
    singular = 0.0 if p == -2 else INF
    np.testing.assert_array_equal(linalgx.cond(batch, p)[1:], [singular, singular, np.nan])
    assert jnp.isfinite(linalgx.cond(batch, p)[0])
    gradient = jax.grad(lambda x: linalgx.cond(x, p).sum())(batch)
    assert_close(gradient[0], jax.grad(lambda x: linalgx.cond(x, p))(batch[0]), tolerance("float64", 2, 100))
    assert not jnp.any(jnp.isfinite(gradient[2]))


@pytest.mark.parametrize("p", [None, *MATRIX_ORDERS])
@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_condition_has_no_scale(p, scale, rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "float64", 3, 3))
    f = lambda A: linalgx.cond(A, p)
    (value, gradient), (scaled, scaled_gradient) = (jax.value_and_grad(f)(B) for B in (A, A * scale))
    assert_close(scaled, value, tolerance("float64", 3, 100))
    assert_close(scaled_gradient * scale, gradient, tolerance("float64", 3, 1000))


def test_condition_is_one_where_all_singular_values_tie(rng) -> None:
    Q = jnp.asarray(unitary(rng, "float64", 3))
    value, gradient = jax.value_and_grad(linalgx.cond)(Q)
    np.testing.assert_allclose(value, 1, rtol=tolerance("float64", 3))
    # at its minimum: both subgradients are U V^H / 3
    assert jnp.max(jnp.abs(gradient)) <= tolerance("float64", 3, 10)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_rank(dtype, rank, scale, rng) -> None:
    A = with_singular_values(rng, dtype, 4, 3, np.linspace(2, 1, 3)[:rank]) * np.asarray(scale, dtype)
    square = A @ A.conj().T
    assert linalgx.matrix_rank(jnp.asarray(A)) == rank
    assert linalgx.matrix_rank(jnp.asarray(square), hermitian=True) == rank


def test_rank_tolerances_as_torch_has_them() -> None:
    S = jnp.diag(jnp.array([4.0, 2.0, 1.0, 1e-20]))
    rank = lambda **options: int(linalgx.matrix_rank(S, **options))
    assert [rank(), rank(rtol=0.3), rank(rtol=0.5), rank(atol=1.5), rank(tol=1.5)] == [3, 2, 1, 2, 2]
    assert rank(atol=1.5, rtol=0.6) == 1
    assert rank(atol=3, rtol=0.1) == 1
    # a positive absolute tolerance sets the relative one to zero
    assert rank(atol=1e-300) == 4
    assert rank(atol=0.0) == 3
    np.testing.assert_array_equal(linalgx.matrix_rank(S, rtol=jnp.array([0.1, 0.3, 0.6])), [3, 2, 1])
    np.testing.assert_array_equal(linalgx.matrix_rank(jnp.stack([S, S]), atol=jnp.array([0.5, 3.0])), [3, 1])


def test_rank_of_what_is_no_matrix_of_numbers() -> None:
    bad = jnp.stack([jnp.eye(2), jnp.full((2, 2), jnp.nan), jnp.diag(jnp.array([INF, 1.0]))])
    np.testing.assert_array_equal(linalgx.matrix_rank(bad), [2, -1, -1])
    np.testing.assert_array_equal(linalgx.matrix_rank(bad, hermitian=True), [2, -1, -1])
    assert linalgx.matrix_rank(jnp.array([0.0, jnp.nan])) == -1
    assert [int(linalgx.matrix_rank(jnp.asarray(x))) for x in (0.0, 2.0)] == [0, 1]
    assert linalgx.matrix_rank(jnp.zeros((2, 0, 3))).shape == (2,)


def test_rank_costs_no_singular_vectors_under_differentiation() -> None:
    jaxpr = str(jax.make_jaxpr(jax.grad(lambda A: linalgx.matrix_rank(A) * A.sum()))(jnp.eye(2)))
    assert "linalgx_svdvals" in jaxpr
    assert "linalgx_svd[" not in jaxpr


# --- torch, where it is right


@pytest.mark.parametrize("p", [None, 2, -2, "nuc"])
def test_torch_agrees_on_cond(p, rng) -> None:
    torch = pytest.importorskip("torch")
    A = well_conditioned(rng, "float64", 3, 3)
    theirs = torch.tensor(A, requires_grad=True)
    torch.linalg.cond(theirs, p).backward()
    assert_close(
        jax.grad(lambda A: linalgx.cond(A, p))(jnp.asarray(A)), theirs.grad.numpy(), tolerance("float64", 3, 100)
    )


@pytest.mark.parametrize("ord", VECTOR_ORDERS)
@pytest.mark.parametrize("x", [[2.0, -2.0, 1.0], [0.0, 3.0, -1.0], [0.0, 0.0, 0.0]], ids=str)
def test_torch_agrees_on_subgradients(ord, x) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = torch.linalg.vector_norm(theirs, ord)
    ours, gradient = jax.value_and_grad(lambda x: linalgx.vector_norm(x, ord=ord))(jnp.array(x))
    assert_close(ours, value.detach().numpy(), tolerance("float64", 3))
    if ord:
        value.backward()
        assert_close(gradient, theirs.grad.numpy(), tolerance("float64", 3))


def test_nothing_here_is_an_operation_without_rules() -> None:
    import linalgx.norms

    operations = [x for x in vars(linalgx.norms).values() if isinstance(x, Operation)]
    assert all(hasattr(operation, "jvp") for operation in operations)
