"""Batched calls of LAPACK run one after the other: in the compiled program each needs the one before it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._core.in_turn import NEEDED
from linalgx._kernels.select import prefer
from tests.operations.inputs import general

pytestmark = pytest.mark.skipif(not NEEDED, reason="this jaxlib computes a batch on one thread")

COMPUTATION = re.compile(r"^(?:ENTRY )?%([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.-]+) = (.*)$")
NAME = re.compile(r"%([\w.-]+)")


def _parsed(text: str) -> tuple[dict[str, dict[str, str]], str]:
    """The instructions of every computation of a compiled program, and the name of its main computation."""
    computations: dict[str, dict[str, str]] = {}
    main = ""
    for line in text.splitlines():
        if start := COMPUTATION.match(line):
            current = computations.setdefault(start[1], {})
            main = start[1] if line.startswith("ENTRY") else main
        elif instruction := INSTRUCTION.match(line):
            current[instruction[1]] = instruction[2]
    return computations, main


def _calls(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The calls of LAPACK in the main computation, and the pairs, in any, of which neither waits for the other."""
    computations, main = _parsed(text)

    def is_call(right: str) -> bool:
        inner = [computations[name] for name in NAME.findall(right) if name in computations]
        return "lapack_" in right or any(is_call(each) for body in inner for each in body.values())

    calls, pairs = {}, []
    for name, instructions in computations.items():
        calls[name] = [result for result, right in instructions.items() if is_call(right)]
        pairs += _independent(instructions, calls[name])
    return calls[main], pairs


def _independent(instructions: dict[str, str], calls: list[str]) -> list[tuple[str, str]]:
    """The pairs of calls of which neither needs the other."""
    ancestors: dict[str, set[str]] = {}
    for name, right in instructions.items():
        operands = {operand for operand in NAME.findall(right) if operand in ancestors}
        ancestors[name] = operands.union(*(ancestors[operand] for operand in operands))
    return [(a, b) for i, a in enumerate(calls) for b in calls[:i] if a not in ancestors[b] and b not in ancestors[a]]


def _positive_definite(rng, dtype: str, n: int, batch: int = 30) -> np.ndarray:
    G = general(rng, dtype, batch, n, n)
    return G @ np.conj(G.swapaxes(-1, -2)) + n * np.eye(n, dtype=dtype)


def _solves(la, A, b):
    return jnp.sum(la.solve(A, b) * la.solve(A + 1, b))


PROGRAMS = {
    "two solves": lambda A, b: _solves(linalgx, A, b),
    "solves and eigenvalues": lambda A, b: jnp.sum(linalgx.solve(A, b)) + jnp.sum(linalgx.eigvalsh(A)),
    "qr": lambda A, b: jnp.sum(linalgx.qr(A)[1]),
    "ldl": lambda A, b: jnp.sum(linalgx.ldl_solve(*linalgx.ldl_factor(A), b)),
    "lstsq": lambda A, b: jnp.sum(linalgx.lstsq(jnp.concatenate([A, A, A], -2), jnp.concatenate([b, b, b], -2))[0]),
    "svd": lambda A, b: jnp.sum(linalgx.svd(A)[1]),
}


def _program(function, order: int):
    real = lambda A, b: jnp.real(function(A, b))
    if order < 2:
        return real if order == 0 else jax.grad(real, (0, 1))
    return lambda A, b: jax.jvp(jax.grad(lambda A: real(A, b)), (A,), (A,))[1]


@pytest.mark.parametrize("order", [0, 1, 2], ids=["value", "gradient", "second derivative"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_each_call_waits_for_the_one_before(name, order, rng) -> None:
    dtype = "complex64" if name == "two solves" else "float32"
    A = jnp.asarray(_positive_definite(rng, dtype, 6))
    b = jnp.asarray(general(rng, dtype, 30, 6, 1))
    with prefer("lapack"):
        text = jax.jit(_program(PROGRAMS[name], order)).lower(A, b).compile().as_text()
    calls, pairs = _calls(text)
    assert len(calls) > 1 or name == "svd" or (name, order) == ("qr", 0)  # there is one: these rules multiply alone
    assert pairs == []


def test_a_call_waits_for_those_in_branches(rng) -> None:
    A = jnp.asarray(_positive_definite(rng, "float32", 6))

    def function(A):
        by_branch = jax.lax.cond(A[0, 0, 0] > 0, linalgx.inv, linalgx.cholesky, A + 1)
        return by_branch + linalgx.inv(A)

    with prefer("lapack"):
        text = jax.jit(function).lower(A).compile().as_text()
    calls, pairs = _calls(text)
    assert len(calls) > 2
    assert pairs == []


def test_a_call_waits_for_one_of_jax(rng) -> None:
    A = jnp.asarray(_positive_definite(rng, "float32", 6))
    text = jax.jit(lambda A: jnp.linalg.cholesky(A + 1) + linalgx.cholesky(A)).lower(A).compile().as_text()
    calls, pairs = _calls(text)
    assert len(calls) == 2
    assert pairs == []


def test_calls_of_jax_do_not_wait(rng) -> None:
    # that the test above can fail
    A = jnp.asarray(_positive_definite(rng, "float32", 6))
    text = jax.jit(lambda A: _solves(jnp.linalg, A, A)).lower(A).compile().as_text()
    assert _calls(text)[1]


@pytest.mark.parametrize("batch", [30, 500])
def test_calls_in_a_loop_wait_for_each_other(batch, rng) -> None:
    """Also those of an operation that no other operation follows: here the loop for matrices of less than full rank."""
    A = jnp.asarray(general(rng, "float32", batch, 12, 10))
    text = jax.jit(linalgx.pinv).lower(A).compile().as_text()
    assert len(re.findall("lapack_sorgqr|lapack_strsm", text)) > 2
    assert _calls(text)[1] == []


def test_single_matrices_need_not_wait(rng) -> None:
    A = jnp.asarray(_positive_definite(rng, "float32", 12, 1)[0])
    text = jax.jit(lambda A: _solves(linalgx, A, A)).lower(A).compile().as_text()
    assert _calls(text)[1]


def test_waiting_leaves_every_bit(rng) -> None:
    A = _positive_definite(rng, "float64", 6)
    B = general(rng, "float64", 30, 6, 2)
    B[0], B[1], B[2, 0] = -0.0, np.nan, np.inf
    A[3, 0, 0], A[4] = np.nan, 0

    def both(A, B):
        return linalgx.solve(A[::-1], B), linalgx.solve(A, B)

    with prefer("lapack"):
        together = jax.jit(both)(A, B)
        alone = jax.jit(lambda A, B: linalgx.solve(A[::-1], B))(A, B), jax.jit(linalgx.solve)(A, B)
    for ours, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours, expected)
        np.testing.assert_array_equal(np.signbit(ours), np.signbit(expected))


@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda")], ids="-".join)
def test_a_symbolic_batch(platforms, rng) -> None:
    exported = _exported(lambda A: _solves(linalgx, A, A), platforms)
    value = jnp.asarray(_positive_definite(rng, "float32", 6))
    text = jax.jit(exported.call).lower(value).compile().as_text()
    calls, pairs = _calls(text)
    assert len(calls) > 1
    assert pairs == []
    assert "cusolver" not in text
    np.testing.assert_allclose(exported.call(value), _solves(np.linalg, value, value), rtol=1e-4)


@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda")], ids="-".join)
def test_a_symbolic_batch_beside_calls_of_jax(platforms, rng) -> None:
    """Those need not wait; what is made to wait are no sizes, which a program must know."""
    f = jax.grad(
        lambda A: jnp.sum(linalgx.eigh(A)[0]) + jnp.sum(jnp.linalg.inv(A) ** 2) + jnp.sum(jnp.linalg.svd(A)[0])
    )
    exported, value = _exported(f, platforms), jnp.asarray(_positive_definite(rng, "float32", 6))
    text = jax.jit(exported.call).lower(value).compile().as_text()
    assert len(_calls(text)[0]) > 1
    assert "cusolver" not in text
    np.testing.assert_allclose(exported.call(value), jax.jit(f)(value), rtol=1e-4, atol=1e-4)


def _exported(f, platforms):
    (batch,) = jax.export.symbolic_shape("batch")
    with prefer("lapack"):
        return jax.export.export(jax.jit(f), platforms=platforms)(jax.ShapeDtypeStruct((batch, 6, 6), jnp.float32))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("n", "batch"), [(4, 100_000), (16, 5_000), (32, 1_000)])
def test_two_independent_solves_do_not_hang(n, batch, rng) -> None:
    # on two cores the same program of jax.numpy.linalg waits for ever in its first call
    A = jnp.asarray(_positive_definite(rng, "float32", n, batch))
    b = jnp.ones((batch, n, 1), jnp.float32)
    with prefer("lapack"):
        gradient = jax.jit(jax.grad(lambda A, b: _solves(linalgx, A, b), (0, 1)))
        for _ in range(3):
            jax.block_until_ready(gradient(A, b))


@pytest.mark.timeout(120)
def test_least_squares_of_few_digits_do_not_hang(rng) -> None:
    # once the last calls in the loop for these ran side by side, and waited for ever in the first
    A, b = (jnp.asarray(general(rng, "float32", 500, 32, columns)) for columns in (32, 1))
    solve = jax.jit(lambda A, b: linalgx.lstsq(A, b).solution)
    for _ in range(3):
        jax.block_until_ready(solve(A, b))
