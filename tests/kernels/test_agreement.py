"""The batch-minor kernels and LAPACK give the same answers through every public function, and so do their rules."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._core.batch_minor import LARGEST
from linalgx._kernels.select import prefer
from tests.operations import CASES, DIFFERENTIABLE, FIRST_CASES
from tests.operations.case import DTYPES, Case, assert_close, tolerance
from tests.operations.inputs import general, hermitian, positive_definite, triangular, well_conditioned
from tests.test_transforms import _scalar


def _first(cases) -> list:
    """Cases as parameters: one of each function in every run, the others in the slow one."""
    return [
        pytest.param(case, id=str(case), marks=() if case in FIRST_CASES else pytest.mark.slow)
        for case in cases
        if case.batchable
    ]


def _with(kernel: str, function, *args):
    with prefer(kernel):
        return jax.jit(function)(*args)


@pytest.mark.parametrize("case", _first(CASES))
def test_values_under_vmap(case: Case, rng) -> None:
    args = tuple(jnp.asarray(x) for x in case.arrays(rng, case.dtypes[-1], (5,)))
    mapped = jax.vmap(lambda *x: case.viewed(*x), in_axes=0, out_axes=-1)
    rtol = tolerance("float64", 4, case.condition)
    assert_close(_with("batch_minor", mapped, *args), _with("lapack", mapped, *args), rtol, str(case))


@pytest.mark.parametrize("case", _first(FIRST_CASES))
def test_values_of_leading_axes(case: Case, rng) -> None:
    args = tuple(jnp.asarray(x) for x in case.arrays(rng, "float64", (2, 3)))
    f = lambda *x: case.view(case(*x))
    rtol = tolerance("float64", 4, case.condition)
    assert_close(_with("batch_minor", f, *args), _with("lapack", f, *args), rtol, str(case))


@pytest.mark.parametrize("case", _first(DIFFERENTIABLE))
def test_gradients_under_vmap(case: Case, rng) -> None:
    args = tuple(jnp.asarray(x) for x in case.arrays(rng, "float64"))
    f, _ = _scalar(case, args)
    batch = jnp.stack([_scalar(case, case.arrays(rng, "float64"))[1] for _ in range(4)], axis=-1)
    gradient = jax.vmap(jax.grad(f), in_axes=-1, out_axes=-1)
    mapped = lambda x: gradient(x) + 1.0  # some are zero: then rounding errors are compared with the inputs
    rtol = tolerance("float64", 4, case.derivative_condition)
    assert_close(_with("batch_minor", mapped, batch), _with("lapack", mapped, batch), rtol, str(case))


@pytest.mark.parametrize("name", ["cholesky", "solve", "eigh", "svd", "qr", "det", "norm"])
def test_second_derivatives_under_nested_vmap(name: str, rng) -> None:
    case = next(case for case in FIRST_CASES if case.function == name)
    args = tuple(jnp.asarray(x) for x in case.arrays(rng, "float64"))
    f, _ = _scalar(case, args)
    batch = jnp.stack([jnp.stack([_scalar(case, case.arrays(rng, "float64"))[1] for _ in range(2)]) for _ in range(2)])
    mapped = jax.vmap(jax.vmap(jax.hessian(f), in_axes=1), in_axes=1, out_axes=-1)
    moved = jnp.moveaxis(batch, (0, 1), (1, 2))
    rtol = tolerance("float64", 4, case.derivative_condition**1.5)
    assert_close(_with("batch_minor", mapped, moved), _with("lapack", mapped, moved), rtol, name)


# --- over sizes, batches, dtypes and layouts

INPUTS = {
    "cholesky": (positive_definite, lambda A: linalgx.cholesky(A)),
    "cholesky_solve": (positive_definite, lambda A: linalgx.cholesky_solve(A[0], linalgx.cholesky(A))),
    "cholesky_inverse": (positive_definite, lambda A: linalgx.cholesky_inverse(linalgx.cholesky(A))),
    "cholesky_logdet": (positive_definite, lambda A: linalgx.cholesky_logdet(linalgx.cholesky(A))),
    "solve_triangular": (triangular, lambda A: linalgx.solve_triangular(A, A[0], upper=False)),
    "solve": (well_conditioned, lambda A: linalgx.solve(A, A[0])),
    "solve_right": (well_conditioned, lambda A: linalgx.solve(A, A[:2], left=False)),
    "inv": (well_conditioned, linalgx.inv),
    "det": (well_conditioned, linalgx.det),
    "slogdet": (well_conditioned, linalgx.slogdet),
    "lu": (well_conditioned, linalgx.lu),
    "lu_solve": (well_conditioned, lambda A: linalgx.lu_solve(*linalgx.lu_factor(A), A[0], adjoint=True)),
    "qr": (well_conditioned, linalgx.qr),
    "eigh": (hermitian, linalgx.eigh),
    "eigvalsh": (hermitian, linalgx.eigvalsh),
    "svd": (well_conditioned, linalgx.svd),
    "svdvals": (well_conditioned, linalgx.svdvals),
    "matrix_exp": (well_conditioned, linalgx.matrix_exp),
    "matmul": (general, lambda A: linalgx.matmul(A, A)),
    "vecdot": (general, lambda A: linalgx.vecdot(A[0], A[-1])),
    "trace": (general, linalgx.trace),
    "norm": (general, linalgx.norm),
}


any_input = hypothesis.given(
    n=st.integers(1, 8),
    batch=st.integers(0, 5),
    dtype=st.sampled_from(DTYPES),
    axis=st.sampled_from([0, 1, -1]),
)
few = hypothesis.settings(max_examples=3, deadline=None, derandomize=True)
many = hypothesis.settings(max_examples=20, deadline=None, derandomize=True)


@pytest.mark.parametrize("name", INPUTS)
@few
@any_input
def test_sizes_dtypes_and_layouts(name: str, n: int, batch: int, dtype: str, axis: int) -> None:
    _assert_agreement(name, n, batch, dtype, axis)


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUTS)
@many
@any_input
def test_more_sizes_dtypes_and_layouts(name: str, n: int, batch: int, dtype: str, axis: int) -> None:
    _assert_agreement(name, n, batch, dtype, axis)


def _assert_agreement(name: str, n: int, batch: int, dtype: str, axis: int) -> None:
    generate, function = INPUTS[name]
    rng = np.random.default_rng(n + 10 * batch)
    shape = (n, n) if generate in (well_conditioned, general) else (n,)
    members = [generate(rng, dtype, *shape) for _ in range(batch)]
    stacked = np.stack(members, axis) if batch else np.zeros(np.insert((n, n), axis % 3, 0), dtype)
    mapped = jax.vmap(function, in_axes=axis, out_axes=-1)
    ours, theirs = (_with(kernel, mapped, jnp.asarray(stacked)) for kernel in ("batch_minor", "lapack"))
    assert_close(ours, theirs, tolerance(dtype, n, condition=100), f"{name} {n} {batch} {dtype} {axis}")


# --- matrices that are not small, for which there are kernels: the batch stays in front


@pytest.mark.parametrize(("n", "dtype"), [(9, "float32"), pytest.param(12, "complex128", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", INPUTS)
def test_larger_matrices(name: str, n: int, dtype: str) -> None:
    _assert_agreement(name, n, 3, dtype, 0)


def _calls_lapack(function, *args) -> bool:
    return "lapack" in jax.jit(function).lower(*args).as_text()


def test_where_larger_matrices_have_a_kernel(rng) -> None:
    A, wide = jnp.asarray(rng.normal(size=(2, 3, LARGEST, LARGEST))), jnp.zeros((2, 3, LARGEST, LARGEST + 1))
    with prefer("batch_minor"):
        assert not _calls_lapack(linalgx.solve, A, A)
        assert not _calls_lapack(jax.vmap(jax.vmap(linalgx.eigh)), A)
        assert _calls_lapack(linalgx.solve, A, wide)  # of one argument an axis is longer
        assert _calls_lapack(linalgx.svd, wide)
        assert _calls_lapack(linalgx.eigh, A[0, 0])  # no batch
    assert _calls_lapack(linalgx.eigh, A)  # few matrices
    many = jax.ShapeDtypeStruct((100, 300, LARGEST, LARGEST), "float32")
    assert not _calls_lapack(linalgx.eigh, many)


def test_leading_axes_of_larger_matrices(rng) -> None:
    A = jnp.asarray(rng.normal(size=(2, 3, 9, 9)))
    f = lambda A: (linalgx.inv(A), linalgx.slogdet(A), linalgx.solve(A, A[..., :2]))
    rtol = tolerance("float64", 9, condition=1000)
    assert_close(_with("batch_minor", f, A), _with("lapack", f, A), rtol, "leading axes")


@pytest.mark.parametrize("name", ["cholesky", "solve", "eigh", "svd", "qr", "slogdet", "matrix_exp"])
def test_gradients_of_larger_matrices(name: str, rng) -> None:
    generate, function = INPUTS[name]
    A = jnp.stack([generate(rng, "float64", *((9, 9) if generate is well_conditioned else (9,))) for _ in range(3)])
    squares = lambda A: sum(jnp.sum(jnp.abs(x) ** 4) for x in jax.tree.leaves(function(A)))
    gradient = lambda A: jax.vmap(jax.grad(squares))(A)
    assert_close(_with("batch_minor", gradient, A), _with("lapack", gradient, A), tolerance("float64", 9, 1e5), name)


# --- failures

SPOILED = {
    "cholesky": lambda A: A.at[2].multiply(-1),
    "inv": lambda A: A.at[2].set(0),
    "solve": lambda A: A.at[2].set(1),
    "eigh": lambda A: A.at[2, 0, 1].set(jnp.nan),
    "svd": lambda A: A.at[2, 1, 1].set(jnp.inf),
    "qr": lambda A: A.at[2, 0, 0].set(jnp.nan),
    "matrix_exp": lambda A: A.at[2, 0, 0].set(jnp.nan),
    "det": lambda A: A.at[2, 1, 1].set(jnp.nan),
}


@pytest.mark.parametrize("n", [2, 4, 6])
@pytest.mark.parametrize("name", SPOILED)
def test_one_failed_matrix_spoils_only_itself(name: str, n: int, rng) -> None:
    whole = jnp.asarray(np.stack([positive_definite(rng, "float64", n) for _ in range(5)]))
    function = functools.partial(linalgx.solve, b=jnp.ones(n)) if name == "solve" else getattr(linalgx, name)
    good, spoiled = (
        jax.tree.leaves(_with("batch_minor", jax.vmap(function), A)) for A in (whole, SPOILED[name](whole))
    )
    others = np.array([0, 1, 3, 4])
    for x, y in zip(good, spoiled, strict=True):
        np.testing.assert_array_equal(x[others], y[others])
    assert any(np.isnan(y[2]).any() for y in spoiled)
    lapack = jax.tree.leaves(_with("lapack", jax.vmap(function), SPOILED[name](whole)))
    for x, y in zip(spoiled, lapack, strict=True):
        np.testing.assert_array_equal(np.isnan(x[2]), np.isnan(y[2]))
