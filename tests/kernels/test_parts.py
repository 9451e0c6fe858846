"""Batches in parts: one kernel does the work of one part after the other, unless a program leaves batches whole."""

import jax
import jax.experimental
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import linalgx
from linalgx._core.loops import PART, in_parts, many_threads, materialise, undivided
from linalgx._kernels.select import prefer
from tests.operations.inputs import general


@pytest.mark.parametrize("batch", [1, 17, PART, PART + 1, 3 * PART - 1, 4099])
def test_parts_give_what_the_whole_does(batch, rng):
    """Results like the first argument, which is overwritten, and others."""

    def function(A, B):
        return A[::-1] * B[:1], jnp.sum(A, 0), A + B, B[0] > 0

    A, B = (jnp.asarray(general(rng, "float64", 2, 3, batch)) for _ in range(2))
    for result, right in zip(jax.jit(lambda A, B: in_parts(function, A, B))(A, B), function(A, B), strict=True):
        np.testing.assert_array_equal(result, right)


@pytest.mark.parametrize("batch", [PART // 2, 3 * PART])
def test_an_argument_that_is_not_used(batch):
    """XLA's compiler ends the process if a kernel has one."""
    A, B = jnp.ones((2, batch)), jnp.zeros((3, batch))
    result, constant = jax.jit(lambda A, B: in_parts(lambda A, B: (A + 1, jnp.ones(A.shape[-1])), A, B))(A, B)
    np.testing.assert_array_equal(result, A + 1)
    np.testing.assert_array_equal(constant, np.ones(batch))
    constant = jax.jit(lambda A: in_parts(lambda A: jnp.ones(A.shape[-1]), A))(A)
    np.testing.assert_array_equal(constant, np.ones(batch))


def _solved(A, C):
    return linalgx.solve(A, C)


def _solved_with_factors(A, C):
    return linalgx.lu_solve(*linalgx.lu_factor(jnp.ones_like(A)), C) + linalgx.lu_solve(C, jnp.arange(4), A)


def _exponential_along(A, C):
    return jax.jvp(linalgx.matrix_exp, (A,), (C,))[1]


def _exponential_at(A, C):
    return jax.jvp(linalgx.matrix_exp, (C,), (A,))[1]


def _eigenvalues(A, C):
    return linalgx.eigvalsh(C) + A[0]


@pytest.mark.parametrize("batch", [PART // 2, 3 * PART, 3 * PART + 1])
@pytest.mark.parametrize("function", [_solved, _solved_with_factors, _exponential_along, _exponential_at, _eigenvalues])
@pytest.mark.parametrize("where", ["program", "function", "loop", "folded"])
def test_constants(function, where, batch, rng):
    """An argument that is a constant beside one that is not ends the process, too, wherever the constant stands."""
    A, C = general(rng, "float32", batch, 4, 4) / 4, general(rng, "float32", batch, 4, 4) / 4
    A, C = A + np.eye(4, dtype="float32"), C + 2 * np.eye(4, dtype="float32")
    with prefer("batch_minor"):
        f = jax.vmap(function)
        program = {
            "program": lambda A: f(A, C),
            "function": lambda A: jax.jit(lambda A: f(A, C))(A),
            "loop": lambda A: jax.lax.map(lambda _: f(A, C), jnp.arange(2))[1],
            "folded": lambda A: f(A, jnp.asarray(C)[::-1].swapaxes(1, 2) * 2)[::-1],
        }[where]
        result = jax.jit(program)(jnp.asarray(A[::-1] if where == "folded" else A))
        constant = C.swapaxes(1, 2) * 2 if where == "folded" else C
        right = jax.jit(f)(jnp.asarray(A), jnp.asarray(constant))
    np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-5)


CHOICES = {
    "where": lambda A, C: jnp.where(np.eye(4) > 2, A, C),
    "stack": lambda A, C: jnp.stack([A, C])[1],
    "at": lambda A, C: A.at[:].set(C),
    "nothing before": lambda A, C: jnp.concatenate([A[:0], C]),
    "sum of nothing": lambda A, C: C + jnp.sum(A[:, :0], 1, keepdims=True),
    "imag": lambda A, C: jnp.imag(jax.lax.complex(A, C)),
    "carried": lambda A, C: jax.lax.fori_loop(0, 3, lambda i, s: (s[0] + 1, s[1]), (A, jnp.asarray(C)))[1],
    "branches": lambda A, C: jax.lax.cond(A[0, 0, 0] > 9, lambda: C, lambda: C),
    "one turn": lambda A, C: jax.lax.fori_loop(0, 1, lambda i, s: jnp.asarray(C), A),
    "one step": lambda A, C: jax.lax.scan(lambda c, _: (jnp.asarray(C), None), A, None, length=1)[0],
    "zero of integers": lambda A, C: C + (0 * A.astype(int)).astype(C.dtype),
    "difference of integers": lambda A, C: C + (A.astype(int) - A.astype(int)).astype(C.dtype),
    "exclusive or": lambda A, C: C + (A.astype(int) ^ A.astype(int)).astype(C.dtype),
    "below zero": lambda A, C: C + (A.astype("uint32") < 0).astype(C.dtype),
    "itself": lambda A, C: C + (A.astype(int) < A.astype(int)).astype(C.dtype),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_constants_that_are_left_of_what_is_none(choice, rng):
    """XLA drops what is not read, and finds a constant where a program has none."""
    A, C = (jnp.asarray(general(rng, "float32", 3 * PART, 4, 4)) for _ in range(2))
    A = A + 8 * jnp.eye(4, dtype="float32")[None]
    C = np.asarray(C)
    with prefer("batch_minor"):
        result = jax.jit(lambda A: linalgx.solve(A, CHOICES[choice](A, C)))(A)
        right = jax.jit(linalgx.solve)(A, jnp.asarray(C))
    np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-5)


def test_an_argument_from_the_host(rng):
    """The call that it comes from has an operand that is no array."""
    A, C = (jnp.asarray(general(rng, "float32", 3 * PART, 4, 4)) for _ in range(2))
    A = A + 8 * jnp.eye(4, dtype="float32")[None]
    fetch = lambda A: jax.experimental.io_callback(lambda: C, A, ordered=True)
    with prefer("batch_minor"):
        result, right = jax.jit(lambda A: linalgx.solve(A, fetch(A)))(A), jax.jit(linalgx.solve)(A, C)
    np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-5)


def test_constants_given_to_an_exported_program(rng):
    """Its arguments are not those of a program there."""
    A, C = (jnp.asarray(general(rng, "float32", 3 * PART, 4, 4)) for _ in range(2))
    A = A + 8 * jnp.eye(4, dtype="float32")[None]
    with prefer("batch_minor"):
        exported = jax.export.export(jax.jit(linalgx.solve))(A, C)
    constant = np.asarray(C)
    np.testing.assert_array_equal(jax.jit(lambda A: exported.call(A, constant))(A), exported.call(A, C))


@pytest.mark.parametrize("name", ["inv", "eigh", "qr", "matrix_exp"])
def test_a_kernel_is_one(name):
    with prefer("batch_minor"):
        program = jax.jit(jax.vmap(getattr(linalgx, name))).lower(jnp.ones((3 * PART, 4, 4))).compile().as_text()
    entry = program[program.index("\nENTRY") :]
    (call,) = [line for line in entry.splitlines() if " call(" in line]
    assert 'frontend_attributes={inlineable="false",xla_cpu_small_call="true"}' in call
    assert " while(" not in entry


@pytest.mark.parametrize("name", ["svdvals", "inv", "matrix_exp"])
@pytest.mark.parametrize("shape", [(3, 1, 1), (10, 3, 3)])
def test_a_kernel_inside_a_small_loop(name, shape, rng):
    """XLA makes one kernel of such a loop, too: one inside the other."""
    A = jnp.asarray(general(rng, "float32", *shape) / 4)
    function = jax.vmap(lambda A: A / (1 + jnp.sum(getattr(linalgx, name)(A) ** 2)))
    with prefer("batch_minor"):
        result = jax.jit(lambda A: jax.lax.fori_loop(0, 3, lambda _, A: function(A), A))(A)
        right = function(function(function(A)))
    np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "copies"),
    [
        (lambda A: A, 0),
        (lambda A: A[1:, :2, None], 0),
        (lambda A: jnp.swapaxes(A, 0, 1), 0),
        (lambda A: in_parts(lambda A: A + 1, A), 0),
        (lambda A: jnp.moveaxis(A, 0, -1), 1),
        (lambda A: A + 1, 1),
    ],
)
def test_what_is_in_memory_is_not_copied_to_it(function, copies):
    """An argument, a part of it, and what a kernel gives are there; a moved batch or a value of a loop is not."""
    program = jax.jit(lambda A: materialise(function(A))).lower(jnp.ones((3, 3, PART // 8)))
    assert program.as_text().count("stablehlo.case") == copies


@pytest.mark.parametrize(
    ("function", "copies"),
    [(lambda A: jnp.moveaxis(A, 0, -1), 0), (lambda A: A[1:, :2, None], 0), (lambda A: A + 1, 1)],
)
def test_what_is_only_moved_may_stay_where_it_is(function, copies):
    def kept(A):
        return materialise(function(A), if_moved=False)

    # what a function that stays one is called with is not seen to be computed
    for member in (kept, lambda A: jax.jit(kept)(A + 1)):
        program = jax.jit(member).lower(jnp.ones((3, 3, PART // 8)))
        assert program.as_text().count("stablehlo.case") == copies


def test_parts_are_for_few_threads():
    x = jnp.ones((2, 4096))

    def program() -> str:
        return str(jax.make_jaxpr(lambda x: in_parts(jnp.negative, x))(x))

    assert "while" in program()
    with many_threads(True):
        assert "while" not in program()
    with undivided(True):
        assert "while" not in program()


@pytest.mark.parametrize(
    ("name", "n"), [(name, 3) for name in ("inv", "eigh", "qr", "matrix_exp", "solve")] + [("inv", 10), ("eigh", 10)]
)
def test_a_batch_that_is_shared_out_is_not_gathered(name, n, rng):
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))
    x = general(rng, "float64", 4 * PART, n, n)
    function = {"solve": lambda A: linalgx.solve(A, A @ A)}.get(name, getattr(linalgx, name))
    A = jax.device_put(jnp.asarray(x), NamedSharding(mesh, P("b")))
    with prefer("batch_minor"):
        compiled = jax.jit(jax.vmap(function)).lower(A).compile()
        right = jax.jit(jax.vmap(function))(jnp.asarray(x))
    assert "all-gather" not in compiled.as_text()
    for result, expected in zip(jax.tree.leaves(compiled(A)), jax.tree.leaves(right), strict=True):
        assert result.sharding.spec == P("b")
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)
