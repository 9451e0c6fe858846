"""A failed matrix spoils only itself, on every kernel and in every derivative; raise_errors says which, and why."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg.lapack
from jax.experimental import checkify

import linalgx
from linalgx._core.errors import Call, report_p
from linalgx._kernels.select import prefer
from linalgx.decompositions.cholesky import cholesky_p
from linalgx.decompositions.eigh import eigh_p
from linalgx.decompositions.svd import svdvals_p
from linalgx.linear_systems import inv_p
from tests.operations.failures import BATCH, INJECTIONS, SPOILED, Injection
from tests.operations.inputs import general, hermitian, positive_definite

EVERY = [injection for injection in INJECTIONS if injection.every]
STANDING_FOR_ALL = [
    pytest.param(
        injection, id=str(injection), marks=() if injection.function in ("cholesky", "svd") else pytest.mark.slow
    )
    for injection in EVERY
]
SMALL_KERNELS = {
    *("cholesky", "cholesky_solve", "cholesky_inverse", "solve_triangular", "lu_factor", "lu", "lu_solve", "eigh"),
    *("eigvalsh", "svd", "svdvals", "solve", "inv", "matrix_power", "logdet", "cond", "matrix_norm", "norm"),
}


def _on_kernels(injections: list[Injection], quick: Callable[[Injection], bool]) -> list[Any]:
    """Each injection on each kernel that its function has; what is not ``quick`` is slow."""
    return [
        pytest.param(injection, kernel, id=f"{injection}-{kernel}", marks=() if quick(injection) else pytest.mark.slow)
        for injection in injections
        for kernel in ("lapack", "batch_minor")
        if kernel == "lapack" or injection.function in SMALL_KERNELS
    ]


def _others(members: tuple[int, ...]) -> np.ndarray:
    return np.array([i for i in range(BATCH) if i not in members])


def _leaves(out: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(out)]


def _has_no_answer(x: np.ndarray) -> bool:
    return not np.all(np.isfinite(x)) or bool(np.any(x == -1))  # -1 is the rank of a matrix that has none


def _check_values(injection: Injection, kernel: str, dtype: str, rng: np.random.Generator) -> None:
    arrays = injection.batch(rng, dtype)
    with prefer(kernel):
        f = jax.jit(jax.vmap(injection.call))
        good = _leaves(f(*map(jnp.asarray, arrays)))
        for members in SPOILED:
            bad = _leaves(f(*injection.spoiled(arrays, members)))
            for x, y in zip(good, bad, strict=True):
                np.testing.assert_array_equal(x[_others(members)], y[_others(members)])
            if injection.label not in FACTORISED:
                assert all(any(_has_no_answer(y[i]) for y in bad) for i in members)


FACTORISED = ("singular matrix", "zero block")
"""What has a factorisation, but one that nothing can be solved with."""


@pytest.mark.parametrize(("injection", "kernel"), _on_kernels(INJECTIONS, lambda injection: True))
def test_failed_members_spoil_only_themselves(injection: Injection, kernel: str, rng) -> None:
    _check_values(injection, kernel, "float64", rng)


@pytest.mark.parametrize(("injection", "kernel"), _on_kernels(INJECTIONS, lambda injection: injection.every))
def test_failed_members_in_single_precision(injection: Injection, kernel: str, rng) -> None:
    _check_values(injection, kernel, "float32", rng)


FAIL_IF_COMPLEX = [injection for injection in INJECTIONS if not injection.real]


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize(("injection", "kernel"), _on_kernels(FAIL_IF_COMPLEX, lambda injection: injection.every))
def test_failed_complex_members(injection: Injection, kernel: str, dtype: str, rng) -> None:
    _check_values(injection, kernel, dtype, rng)


def _scalar(injection: Injection, *arrays: jax.Array) -> jax.Array:
    leaves = [x for x in jax.tree.leaves(injection.call(*arrays)) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return functools.reduce(jnp.add, (jnp.sum(jnp.real(x) ** 2 + jnp.imag(x) ** 2) for x in leaves))


DIFFERENTIABLE = [injection for injection in INJECTIONS if injection.derivative]


@pytest.mark.parametrize(("injection", "kernel"), _on_kernels(DIFFERENTIABLE, lambda injection: injection.every))
def test_gradients_of_failed_members_spoil_only_themselves(injection: Injection, kernel: str, rng) -> None:
    arrays = injection.batch(rng, "float64")
    with prefer(kernel):
        f = jax.jit(jax.grad(lambda *x: jnp.sum(jax.vmap(functools.partial(_scalar, injection))(*x))))
        good = np.asarray(f(*map(jnp.asarray, arrays)))
        assert np.all(np.isfinite(good))
        for members in SPOILED:
            bad = np.asarray(f(*injection.spoiled(arrays, members)))
            np.testing.assert_array_equal(good[_others(members)], bad[_others(members)])
            assert all(_has_no_answer(bad[i]) for i in members)


# --- raise_errors


def _raised(function: Callable[..., Any], *args: Any) -> str | None:
    """What ``function(*args)`` raises inside the context, without the notes that JAX appends."""
    try:
        with linalgx.raise_errors():
            function(*args)
    except linalgx.LinAlgError as error:
        return error.args[0]
    return None


@pytest.mark.parametrize("injection", INJECTIONS, ids=str)
def test_raises_eagerly_and_compiled(injection: Injection, rng) -> None:
    arrays = injection.batch(rng, "float64")
    mapped = jax.jit(jax.vmap(injection.call))
    for members in SPOILED:
        bad, message = injection.spoiled(arrays, members), injection.message(members)
        assert _raised(injection.call, *bad) == message
        assert _raised(mapped, *bad) == message
    good = [jnp.asarray(x) for x in arrays]
    assert _raised(injection.call, *good) is None
    assert _raised(mapped, *good) is None


@pytest.mark.parametrize("injection", STANDING_FOR_ALL)
def test_raises_under_every_transformation(injection: Injection, rng) -> None:
    arrays, members = injection.batch(rng, "float64"), (1, 3)
    bad, message = injection.spoiled(arrays, members), injection.message(members)
    alone = f"linalgx.{injection.function}: {injection.cause}"
    total = lambda *x: jnp.sum(jax.vmap(functools.partial(_scalar, injection))(*x))
    assert _raised(jax.vmap(injection.call), *bad) == message
    assert _raised(jax.grad(total), *bad) == message
    assert _raised(jax.jit(jax.value_and_grad(total)), *bad) == message
    assert _raised(jax.jit(jax.grad(jax.checkpoint(total))), *bad) == message
    assert _raised(lambda *x: jax.jvp(total, x, x), *bad) == message
    last = [jnp.moveaxis(x, 0, -1) for x in bad]
    assert _raised(jax.jit(jax.vmap(injection.call, in_axes=-1, out_axes=-1)), *last) == message
    one = [x[1] for x in bad]
    assert _raised(injection.call, *one) == alone
    scan = lambda *xs: jax.lax.scan(lambda _, x: (None, injection.call(*x)), None, xs)
    assert _raised(scan, *bad) == alone
    assert (
        _raised(jax.jit(jax.grad(lambda *x: jnp.sum(jax.lax.map(lambda x: _scalar(injection, *x), x)))), *bad) == alone
    )
    assert _raised(lambda *x: jax.lax.cond(x[0].size > 0, injection.call, injection.call, *x), *one) == alone


def _definite_or_not(*failed: int) -> jax.Array:
    return jnp.stack([jnp.eye(2) * (-1 if i in failed else 1) for i in range(4)])


MINOR = "the leading minor of order 1 is not positive definite"


def test_batch_index_counts_mapped_axes_first() -> None:
    A = jnp.stack([_definite_or_not(), _definite_or_not(), _definite_or_not(2, 3)])
    expected = f"linalgx.cholesky: 2 of 12 matrices failed, the first at batch index (2, 2): {MINOR}"
    for function in (linalgx.cholesky, jax.vmap(linalgx.cholesky), jax.vmap(jax.vmap(linalgx.cholesky))):
        assert _raised(function, A) == expected
        assert _raised(jax.jit(function), A) == expected
    info, call = jnp.zeros((2, 3), jnp.int32).at[1, 2].set(5), Call("f", "minor {order}", 0, None)
    with pytest.raises(
        linalgx.LinAlgError, match=r"f: 1 of 6 matrices failed, the first at batch index \(2, 1\): minor 5"
    ):
        jax.vmap(lambda member: report_p.bind(member, call=call), in_axes=1)(info)


def test_compiled_before_without_the_context() -> None:
    inner = jax.jit(lambda A: linalgx.cholesky(A) + 1)
    outer = jax.jit(lambda A: 2 * inner(A))
    outer(_definite_or_not(0))
    assert MINOR in str(_raised(outer, _definite_or_not(0)))
    assert not jnp.isfinite(outer(_definite_or_not(0))).all()  # and nothing is raised outside


def test_a_failure_is_raised_once() -> None:
    bad = jax.jit(linalgx.cholesky)
    assert _raised(bad, _definite_or_not(1)) is not None
    assert _raised(bad, _definite_or_not()) is None
    with linalgx.raise_errors():
        with pytest.raises(linalgx.LinAlgError, match="batch index"):
            linalgx.cholesky(_definite_or_not(1))
        with pytest.raises(linalgx.LinAlgError), linalgx.raise_errors():
            bad(_definite_or_not(1))
        bad(_definite_or_not())


def test_no_failure_is_lost() -> None:
    def two(A):
        linalgx.cholesky(A)
        return linalgx.inv(jnp.zeros_like(A))

    @linalgx.raise_errors()
    def three_times(A):
        for _ in range(3):
            jax.block_until_ready(jax.jit(two)(A))

    with pytest.raises(linalgx.LinAlgError, match=r"linalgx\.cholesky") as caught:
        three_times(_definite_or_not(2))
    assert any("5 other calls" in note for note in caught.value.__notes__)

    @linalgx.raise_errors()
    def stumbles(A):
        jax.jit(linalgx.cholesky)(A)
        raise RuntimeError("of the user")

    with pytest.raises(linalgx.LinAlgError, match=r"linalgx\.cholesky") as caught:
        stumbles(_definite_or_not(2))
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(RuntimeError, match="of the user"):
        stumbles(_definite_or_not())


def test_decorator() -> None:
    @linalgx.raise_errors()
    def step(A):
        return jax.jit(linalgx.inv)(A)

    for _ in range(2):
        with pytest.raises(linalgx.LinAlgError, match="singular"):
            step(jnp.zeros((2, 2)))
        np.testing.assert_array_equal(step(jnp.eye(2)), jnp.eye(2))


def test_a_context_inside_of_jit_raises_what_jax_raises_from_a_callback() -> None:
    @jax.jit
    @linalgx.raise_errors()
    def step(A):
        return linalgx.inv(A)

    step(jnp.eye(2))
    with pytest.raises(jax.errors.JaxRuntimeError, match="the matrix is singular"):
        step(jnp.zeros((2, 2))).block_until_ready()
    assert "singular" in str(_raised(step, jnp.zeros((2, 2))))


def test_threads_raise_their_own_failures() -> None:
    assert _raised(linalgx.inv, jnp.eye(2)) is None  # leaves a recorder behind, which one of the threads takes
    found: dict[int, str | None] = {}
    barrier = threading.Barrier(4)

    def work(i: int) -> None:
        def body() -> None:
            for _ in range(3):
                barrier.wait()
                jax.jit(linalgx.cholesky)(_definite_or_not(*range(i))).block_until_ready()

        found[i] = _raised(body)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = {
        i: f"linalgx.cholesky: {i} of 4 matrices failed, the first at batch index (0,): {MINOR}" for i in (1, 2, 3)
    }
    assert found == {0: None, **texts}


# --- what is no failure

NAN_MATRIX = jnp.full((2, 2), jnp.nan)
PASSED = [
    *(
        functools.partial(getattr(linalgx, name), NAN_MATRIX)
        for name in ("inv", "lu", "lu_factor", "qr", "geqrf", "det")
    ),
    *(functools.partial(getattr(linalgx, name), NAN_MATRIX) for name in ("slogdet", "logdet", "matrix_exp", "norm")),
    lambda: linalgx.solve(NAN_MATRIX, jnp.ones(2)),
    lambda: linalgx.solve(jnp.eye(2), jnp.full(2, jnp.nan)),
    lambda: linalgx.lstsq(jnp.eye(2), jnp.full(2, jnp.nan)),
    lambda: linalgx.cond(NAN_MATRIX, "fro"),
    lambda: linalgx.cond(jnp.zeros((2, 2))),
    lambda: linalgx.matrix_norm(NAN_MATRIX, ord=1),
    lambda: linalgx.matmul(NAN_MATRIX, NAN_MATRIX),
    lambda: linalgx.slogdet(jnp.zeros((2, 2))),
    lambda: linalgx.lu(jnp.zeros((2, 2))),
    lambda: linalgx.lu(jnp.zeros((2, 2)), pivot=False),
    lambda: linalgx.eigh(jnp.array([[1.0, jnp.nan], [0.0, 1.0]]), "L"),
    lambda: linalgx.cholesky_logdet(jnp.zeros((2, 2))),
    lambda: linalgx.solve_triangular(jnp.zeros((2, 2)), jnp.ones(2), upper=True, unitriangular=True),
    lambda: linalgx.cholesky(jnp.zeros((0, 2, 2))),
    lambda: linalgx.inv(jnp.zeros((3, 0, 0))),
    lambda: jax.jit(jax.vmap(linalgx.svd))(jnp.zeros((0, 2, 2))),
]


@pytest.mark.parametrize("call", PASSED)
def test_no_failure(call) -> None:
    assert _raised(call) is None


# --- info and check_errors

EX = {
    "cholesky_ex": (linalgx.cholesky_ex, INJECTIONS[0], 2),
    "lu_factor_ex": (linalgx.lu_factor_ex, next(i for i in INJECTIONS if i.function == "lu_factor"), 2),
    "ldl_factor_ex": (linalgx.ldl_factor_ex, next(i for i in INJECTIONS if i.function == "ldl_factor"), 1),
    "solve_ex": (linalgx.solve_ex, next(i for i in INJECTIONS if i.function == "solve"), 2),
    "inv_ex": (linalgx.inv_ex, next(i for i in INJECTIONS if i.function == "inv"), 2),
}


@pytest.mark.parametrize("name", EX)
def test_check_errors(name: str, rng) -> None:
    call, injection, number = EX[name]
    arrays = injection.batch(rng, "float64")
    bad, good = injection.spoiled(arrays, (1, 3)), [jnp.asarray(x) for x in arrays]
    assert call(*bad).info.tolist() == [0, number, 0, number, 0]
    assert jax.jit(jax.vmap(call))(*bad).info.tolist() == [0, number, 0, number, 0]
    checked = functools.partial(call, check_errors=True)
    assert checked(*good).info.tolist() == [0] * BATCH
    message = injection.message((1, 3)).replace(injection.function, name)
    with pytest.raises(linalgx.LinAlgError) as caught:
        checked(*bad)
    assert caught.value.args[0] == message
    jax.block_until_ready(jax.jit(checked)(*good))
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(jax.jit(checked)(*bad))
    assert message in str(caught.value)
    # the user deals with the others, also inside of the context
    assert _raised(call, *bad) is None
    assert _raised(jax.jit(call), *bad) is None
    assert _raised(checked, *bad) == message
    assert _raised(jax.jit(checked), *bad) == message


def test_info_of_cholesky_is_that_of_lapack(rng) -> None:
    A = np.stack([positive_definite(rng, "float64", 6) for _ in range(12)])
    for i in range(6):
        A[i, i, i] = -1
        A[6 + i, 5, i] = A[6 + i, i, 5] = np.nan
    assert [scipy.linalg.lapack.dpotrf(a, lower=1)[1] for a in A[:6]] == [1, 2, 3, 4, 5, 6]
    # SciPy's LAPACK does not see the NaN; the reference implementation finds it in the last pivot
    assert linalgx.cholesky_ex(jnp.asarray(A)).info.tolist() == [1, 2, 3, 4, 5, 6, *[6] * 6]


def test_cholesky_that_fails_by_rounding_has_an_info(rng) -> None:
    G = general(rng, "float64", 100, 20, 19)
    L, info = linalgx.cholesky_ex(jnp.asarray(G @ G.swapaxes(-1, -2)))
    failed = np.isnan(L).any(axis=(-2, -1))
    assert 0 < failed.sum() < 100
    np.testing.assert_array_equal(info > 0, failed)


def test_info_of_ldl_is_that_of_lapack(rng) -> None:
    A = np.stack([np.diag([1.0, 0, 2, 0]), np.diag([0.0, 1, 0, 0]), np.eye(4), hermitian(rng, "float64", 4)])
    expected = [scipy.linalg.lapack.dsytrf(a, lower=1)[2] for a in A]
    assert linalgx.ldl_factor_ex(jnp.asarray(A)).info.tolist() == expected


def test_ldl_has_an_info_wherever_there_is_nan() -> None:
    places = [(i, j) for i in range(3) for j in range(i + 1)]
    A = jnp.stack([base.at[place].set(jnp.nan) for place in places for base in (jnp.eye(3), jnp.zeros((3, 3)))])
    LD, _, info = linalgx.ldl_factor_ex(A)
    assert jnp.isnan(LD).any(axis=(-2, -1)).all()
    assert (info > 0).all()


# --- checkify


@pytest.mark.parametrize("injection", STANDING_FOR_ALL)
def test_checkify_gives_the_failure_as_a_value(injection: Injection, rng) -> None:
    arrays = injection.batch(rng, "float64")
    bad, good = injection.spoiled(arrays, (2,)), [jnp.asarray(x) for x in arrays]
    with linalgx.raise_errors():
        for checked in (
            checkify.checkify(injection.call),
            jax.jit(checkify.checkify(injection.call)),
            jax.jit(checkify.checkify(jax.vmap(jax.jit(injection.call)))),
        ):
            assert injection.message((2,)) in checked(*bad)[0].get()
            assert checked(*good)[0].get() is None
        error, _ = jax.vmap(checkify.checkify(injection.call))(*bad)
        assert f"at mapped index 2: linalgx.{injection.function}: {injection.cause}" in error.get()
    assert checkify.checkify(injection.call)(*bad)[0].get() is None


def test_checkify_of_derivatives_and_loops() -> None:
    total = lambda A: jnp.sum(linalgx.cholesky(A))
    with linalgx.raise_errors():
        for function in (
            jax.grad(total),
            jax.value_and_grad(jax.checkpoint(total)),
            lambda A: jax.lax.scan(lambda _, a: (None, linalgx.cholesky(a)), None, A),
        ):
            assert MINOR in checkify.checkify(function)(_definite_or_not(3))[0].get()
            assert checkify.checkify(function)(_definite_or_not())[0].get() is None
    checked = checkify.checkify(lambda A: linalgx.cholesky_ex(A, check_errors=True))
    assert MINOR in checked(_definite_or_not(3))[0].get()


# --- without the context


def _lowered(function: Callable[..., Any], *args: jax.Array) -> str:
    return jax.jit(lambda *x: function(*x)).lower(*args).as_text()


@pytest.mark.parametrize("injection", INJECTIONS, ids=str)
def test_nothing_is_added_without_the_context(injection: Injection, rng) -> None:
    args = [jnp.asarray(x) for x in injection.batch(rng, "float64")]
    before = _lowered(injection.call, *args)
    with linalgx.raise_errors():
        inside = _lowered(injection.call, *args)
    assert _lowered(injection.call, *args) == before
    assert "callback" in inside
    assert "callback" not in before


def test_the_program_is_that_of_the_operation_alone() -> None:
    A = jnp.eye(3)
    for public, operation in (
        (linalgx.cholesky, cholesky_p),
        (linalgx.inv, lambda A: inv_p(A)[0]),
        (linalgx.eigh, eigh_p),
        (linalgx.svdvals, svdvals_p),
    ):
        bare = jax.jit(lambda A, operation=operation: operation(A)).lower(A).compile().as_text()
        assert _instructions(jax.jit(public).lower(A).compile().as_text()) == _instructions(bare)


def _instructions(program: str) -> list[str]:
    """What the program does, in any order: without names, and without places in the source."""
    lines = re.sub(r"%[\w.-]+", "%", program).splitlines()
    return sorted(line.split(", metadata=")[0] for line in lines if " = " in line)
