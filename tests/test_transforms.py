"""Every function under every transformation: vmap over any axis, jit, scan, checkpoint, cond, sharding, export."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import linalgx
from linalgx._kernels.select import prefer
from tests.operations import CASES, FIRST_CASES
from tests.operations.case import Case, assert_close, tolerance
from tests.operations.inputs import general, positive_definite

BATCHABLE = [case for case in CASES if case.batchable]
FIRST_BATCHABLE = [case for case in FIRST_CASES if case.batchable]
FIRST_DIFFERENTIABLE = [case for case in FIRST_BATCHABLE if case.differentiate]


def _close(case: Case, ours, theirs) -> None:
    assert_close(ours, theirs, tolerance("float64", 4, case.derivative_condition), str(case))


def _arrays(case: Case, rng, batch=()) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(x) for x in case.arrays(rng, "float64", batch))


def _loop(function, args):
    """The function of each member of the batch (first axis), stacked."""
    results = [function(*(x[i] for x in args)) for i in range(len(args[0]))]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def _scalar(case: Case, args):
    """A scalar function of the first differentiable argument, smooth and free of the gauge."""
    position = case.differentiate[0]

    def f(x):
        leaves = case.viewed(*args[:position], x, *args[position + 1 :])
        floating = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        weights = [jnp.cos(jnp.arange(leaf.size, dtype=float)).reshape(leaf.shape) for leaf in floating]
        terms = [
            jnp.sum(w * (jnp.real(leaf) ** 2 + jnp.imag(leaf) ** 2)) for w, leaf in zip(weights, floating, strict=True)
        ]
        return sum(terms, jnp.asarray(0.0))

    return f, args[position]


VMAPPED = [
    pytest.param(case, id=str(case), marks=() if case in FIRST_CASES else pytest.mark.slow) for case in BATCHABLE
]


@pytest.mark.parametrize("case", VMAPPED)
def test_vmap(case: Case, rng) -> None:
    args = _arrays(case, rng, (3,))
    f = lambda *x: case.viewed(*x)
    expected = _loop(f, args)
    _close(case, jax.jit(jax.vmap(f))(*args), expected)
    last = [jnp.moveaxis(x, 0, -1) for x in args]
    _close(case, jax.vmap(f, in_axes=-1)(*last), expected)
    if len(args) > 1:
        fixed = jax.vmap(f, in_axes=(None, *[0] * (len(args) - 1)))(args[0][0], *args[1:])
        _close(case, fixed, _loop(functools.partial(f, args[0][0]), args[1:]))


@pytest.mark.parametrize("case", FIRST_BATCHABLE, ids=str)
def test_nested_vmap(case: Case, rng) -> None:
    args = _arrays(case, rng, (2, 3))
    f = lambda *x: case.viewed(*x)
    expected = _loop(lambda *rows: _loop(f, rows), args)
    _close(case, jax.vmap(jax.vmap(f))(*args), expected)
    swapped = [jnp.swapaxes(x, 0, 1) for x in args]
    _close(case, jax.vmap(jax.vmap(f), in_axes=1)(*swapped), expected)


@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("case", FIRST_BATCHABLE, ids=str)
def test_vmap_of_a_batch(case: Case, kernel: str, rng) -> None:
    """Leading axes inside of the mapped one, some as long as those of the matrices: wherever the mapped axis is."""
    f = lambda *x: case.viewed(*x)
    for leading in (2, 3):
        args = _arrays(case, rng, (leading, 4))
        expected = _loop(lambda *rows: _loop(f, rows), args)
        swapped = [jnp.swapaxes(x, 0, 1) for x in args]
        last = [jnp.moveaxis(x, 1, -1) for x in args]
        with prefer(kernel):
            _close(case, jax.vmap(f, out_axes=1)(*swapped), expected)
            _close(case, jax.jit(jax.vmap(f, in_axes=1, out_axes=1))(*args), expected)
            _close(case, jax.vmap(f, in_axes=-1, out_axes=1)(*last), expected)


@pytest.mark.parametrize("case", FIRST_DIFFERENTIABLE, ids=str)
def test_derivatives_of_a_mapped_batch(case: Case, rng) -> None:
    def squares(*args):
        floating = [y for y in case.viewed(*args) if jnp.issubdtype(y.dtype, jnp.inexact)]
        return sum((jnp.sum(jnp.real(y) ** 2 + jnp.imag(y) ** 2) for y in floating), jnp.asarray(0.0))

    gradient = jax.grad(squares, case.differentiate[0])
    args = _arrays(case, rng, (3, 4))
    expected = _loop(lambda *rows: _loop(gradient, rows), args)
    with prefer("batch_minor"):
        _close(case, jax.jit(jax.vmap(gradient, in_axes=1, out_axes=1))(*args), expected)


@pytest.mark.parametrize("case", FIRST_DIFFERENTIABLE, ids=str)
def test_derivatives_batch(case: Case, rng) -> None:
    args = _arrays(case, rng)
    batch = jnp.stack([_scalar(case, _arrays(case, rng))[1] for _ in range(3)])
    f, _ = _scalar(case, args)
    expected = _loop(jax.grad(f), (batch,))
    _close(case, jax.jit(jax.vmap(jax.grad(f)))(batch), expected)
    _close(case, jax.jit(jax.grad(lambda X: jnp.sum(jax.vmap(f)(X))))(batch), expected)
    directions = jnp.ones_like(batch)
    pushed = jax.vmap(lambda x, t: jax.jvp(f, (x,), (t,))[1])(batch, directions)
    _close(case, pushed, jnp.sum(expected, axis=tuple(range(1, expected.ndim))))


@pytest.mark.parametrize("case", FIRST_DIFFERENTIABLE, ids=str)
def test_jacobians_and_hessian_agree(case: Case, rng) -> None:
    f, x = _scalar(case, _arrays(case, rng))
    position = case.differentiate[0]
    args = _arrays(case, rng)

    def leaves(x):
        values = case.viewed(*args[:position], x, *args[position + 1 :])
        parts = [part(y) for y in values if jnp.issubdtype(y.dtype, jnp.inexact) for part in (jnp.real, jnp.imag)]
        return jnp.concatenate([y.ravel() for y in parts])

    _close(case, jax.jit(jax.jacfwd(leaves))(args[position]), jax.jit(jax.jacrev(leaves))(args[position]))
    hessian = jax.jit(jax.hessian(f))(x)
    flat = hessian.reshape(x.size, x.size)
    assert_close(flat, flat.T, tolerance("float64", 4, case.derivative_condition**1.5), str(case))


@pytest.mark.parametrize("case", FIRST_DIFFERENTIABLE, ids=str)
def test_inside_control_flow(case: Case, rng) -> None:
    f, x = _scalar(case, _arrays(case, rng))
    scan = lambda x: jax.lax.scan(lambda c, _: (c + f(x), None), 0.0, None, length=2)[0]
    branch = lambda x: jax.lax.cond(x.ravel()[0] < jnp.inf, f, lambda x: jnp.sum(x) * 0.0, x)

    @jax.jit
    def found(x):
        value, push = jax.linearize(f, x)
        rewritten = [jax.grad(function)(x) for function in (scan, jax.checkpoint(f), branch)]
        return rewritten, jax.vmap(jax.grad(branch))(jnp.stack([x, x])), value, push(jnp.ones_like(x))

    value, expected = jax.jit(jax.value_and_grad(f))(x)
    _close(case, found(x), ([2 * expected, expected, expected], jnp.stack([expected] * 2), value, jnp.sum(expected)))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["Auto", "Explicit"])
@pytest.mark.parametrize("case", FIRST_DIFFERENTIABLE, ids=str)
def test_sharded_batches(case: Case, axis_type, rng) -> None:
    f, x = _scalar(case, _arrays(case, rng))
    batch = jnp.stack([x, _scalar(case, _arrays(case, rng))[1]])
    expected = _loop(jax.grad(f), (batch,))
    mesh = jax.make_mesh((2,), ("b",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(batch, NamedSharding(mesh, P("b")))
        if axis_type == AxisType.Auto:  # jax.numpy.linalg itself does not go through vmap on an Explicit mesh
            _close(case, jax.jit(jax.vmap(jax.grad(f)))(sharded), expected)
        mapped = jax.shard_map(jax.vmap(jax.grad(f)), mesh=mesh, in_specs=P("b"), out_specs=P("b"))
        _close(case, jax.jit(mapped)(sharded), expected)
        total = lambda X: jnp.sum(jax.shard_map(jax.vmap(f), mesh=mesh, in_specs=P("b"), out_specs=P("b"))(X))
        _close(case, jax.jit(jax.grad(total))(sharded), expected)


@pytest.mark.parametrize("case", [case for case in FIRST_DIFFERENTIABLE if len(case.differentiate) > 1], ids=str)
def test_unsharded_operand_of_shard_map(case: Case, rng) -> None:
    """An operand that all devices share: its gradient is the sum over the devices."""
    one, other = _arrays(case, rng), _arrays(case, rng)
    shared, second = case.differentiate[:2]
    batch = jnp.stack([one[second], other[second]])
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))

    def f(x, y):
        args = list(one)
        args[shared], args[second] = x, y
        return sum(
            jnp.sum(jnp.abs(leaf) ** 2) for leaf in case.viewed(*args) if jnp.issubdtype(leaf.dtype, jnp.inexact)
        )

    mapped = jax.shard_map(jax.vmap(f, in_axes=(None, 0)), mesh=mesh, in_specs=(P(), P("b")), out_specs=P("b"))
    ours = jax.jit(jax.grad(lambda x: jnp.sum(mapped(x, batch))))(one[shared])
    _close(case, ours, jax.grad(lambda x: f(x, batch[0]) + f(x, batch[1]))(one[shared]))


# JAX vouches for the compatibility of most calls of LAPACK and cuSOLVER, but not of these
UNVOUCHED = [
    export.DisabledSafetyCheck.custom_call(name)
    for name in ("lapack_dormqr_ffi", "cusolver_ormqr_ffi", "cuhybrid_eig_real")
]


@pytest.mark.parametrize("case", FIRST_CASES, ids=str)
def test_export(case: Case, rng) -> None:
    args = _arrays(case, rng)
    f = jax.jit(lambda *x: case.viewed(*x))
    restored = export.deserialize(export.export(f, disabled_checks=UNVOUCHED)(*args).serialize())
    _close(case, restored.call(*args), f(*args))
    if case.differentiate:
        g, x = _scalar(case, args)
        gradient = jax.jit(jax.grad(g))
        _close(case, export.export(gradient, disabled_checks=UNVOUCHED)(x).call(x), gradient(x))


@pytest.mark.parametrize("case", FIRST_CASES, ids=str)
def test_exported_for_several_platforms(case: Case, rng) -> None:
    args = _arrays(case, rng)

    def f(*args):
        if not case.differentiate:
            return case.viewed(*args)
        g, x = _scalar(case, args)
        return case.viewed(*args), jax.grad(g)(x)

    exported = export.export(jax.jit(f), platforms=("cpu", "cuda"), disabled_checks=UNVOUCHED)(*args)
    _close(case, exported.call(*args), jax.jit(f)(*args))


# functions of S (Hermitian, positive definite) that are free of the gauge
OF_A_MATRIX = {
    "inv": linalgx.inv,
    "solve": lambda S: linalgx.solve(S, jnp.cos(S)),
    "solve_triangular": lambda S: linalgx.solve_triangular(S, jnp.cos(S), upper=False),
    "cholesky": linalgx.cholesky,
    "cholesky_solve": lambda S: linalgx.cholesky_solve(S, jnp.cos(S)),
    "qr": lambda S: jnp.abs(linalgx.qr(S)[1]),
    "eigh": lambda S: jnp.abs(linalgx.eigh(S)[1]),
    "eigvalsh": linalgx.eigvalsh,
    "eig": lambda S: jnp.abs(linalgx.eig(S)[1]).sum(-1),
    "svd": lambda S: jnp.abs(linalgx.svd(S)[0]),
    "svdvals": linalgx.svdvals,
    "det": linalgx.det,
    "slogdet": lambda S: linalgx.slogdet(S)[1],
    "lstsq": lambda S: linalgx.lstsq(S, jnp.cos(S))[0],
    "lstsq, one column": lambda S: linalgx.lstsq(S, jnp.cos(S[..., :1]))[0],
    "pinv": linalgx.pinv,
    "matrix_exp": lambda S: linalgx.matrix_exp(S / 8),
    "matrix_power": lambda S: linalgx.matrix_power(S, -3),
    "cond": linalgx.cond,
    "matrix_norm": lambda S: linalgx.matrix_norm(S, ord="nuc"),
    "matrix_rank": lambda S: linalgx.matrix_rank(S).astype(S.dtype),
    "lu": lambda S: linalgx.lu(S)[1],
    "lu_solve": lambda S: linalgx.lu_solve(*linalgx.lu_factor(S), jnp.cos(S)),
    "ldl_solve": lambda S: linalgx.ldl_solve(*linalgx.ldl_factor(S), jnp.cos(S)),
    "trace": linalgx.trace,
}


@pytest.mark.parametrize("name", OF_A_MATRIX)
def test_exported_for_a_symbolic_order(name, rng) -> None:
    function = OF_A_MATRIX[name]

    @jax.jit
    def f(S):
        return function(S), jax.grad(lambda S: jnp.sum(jnp.sin(function(S))))(S)

    (n,) = export.symbolic_shape("n")
    exported = export.export(f, disabled_checks=UNVOUCHED)(jax.ShapeDtypeStruct((n, n), jnp.float64))
    for size in (3, 13):
        S = jnp.asarray(positive_definite(rng, "float64", size))
        assert_close(exported.call(S), f(S), tolerance("float64", size, 1000), name)


@pytest.mark.parametrize("name", OF_A_MATRIX)
def test_derivatives_of_a_batch_on_an_explicit_mesh(name, rng) -> None:
    function = OF_A_MATRIX[name]

    @jax.jit
    def f(S):
        return jax.grad(lambda S: jnp.sum(jnp.sin(function(S))))(S), jax.jvp(function, (S,), (jnp.cos(S),))[1]

    batch = jnp.stack([jnp.asarray(positive_definite(rng, "float64", 3)) for _ in range(2)])
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        found = f(jax.device_put(batch, NamedSharding(mesh, P("b"))))
    assert_close(found, f(batch), tolerance("float64", 3, 1000), name)


@pytest.mark.parametrize("case", FIRST_CASES, ids=str)
def test_traced_once(case: Case, rng) -> None:
    args = _arrays(case, rng)
    traced = jax.jit(chex.assert_max_traces(lambda *x: case.viewed(*x), n=1))
    for _ in range(3):
        traced(*args)
    chex.clear_trace_counter()


WITH_LOOPS = ("ldl_factor", "ldl_solve")
COMPILED_ONCE = [
    pytest.param(case, id=str(case), marks=() if case.function in WITH_LOOPS else pytest.mark.slow)
    for case in FIRST_DIFFERENTIABLE
]


@pytest.mark.parametrize("case", COMPILED_ONCE)
def test_second_derivatives_outside_of_programs_are_compiled_once(case: Case, rng) -> None:
    f, x = _scalar(case, _arrays(case, rng))
    second = lambda: jax.jvp(jax.grad(f), (x,), (x,))
    second(), second()
    compiled = []

    def note(event: str, _: float, **names) -> None:
        if "backend_compile" in event:
            compiled.append(names.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        second()
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert compiled == []


@pytest.mark.parametrize("case", FIRST_CASES, ids=str)
def test_abstract_evaluation(case: Case, rng) -> None:
    args = _arrays(case, rng)
    shapes = jax.eval_shape(case, *args)
    jax.tree.map(lambda x, y: np.testing.assert_equal((x.shape, x.dtype), (y.shape, y.dtype)), shapes, case(*args))


DEBUGGED = [case for case in FIRST_DIFFERENTIABLE if case.function in ("cholesky", "eigh", "solve", "vector_norm")]


@pytest.mark.parametrize("case", DEBUGGED, ids=str)
def test_with_jit_disabled(case: Case, rng) -> None:
    args = _arrays(case, rng)
    f, x = _scalar(case, args)
    expected = jax.value_and_grad(f)(x)
    with jax.disable_jit():
        _close(case, jax.value_and_grad(f)(x), expected)


# functions of S (Hermitian, positive definite) and x, linear in x
LINEAR = {
    "matmul": lambda S, x: linalgx.matmul(S, x),
    "matmul, left": lambda S, x: linalgx.matmul(x, S),
    "matmul, vector": lambda S, x: linalgx.matmul(S, x[:, 0]),
    "vector, matmul": lambda S, x: linalgx.matmul(x[0], S),
    "vecdot": lambda S, x: linalgx.vecdot(S, x),
    "multi_dot": lambda S, x: linalgx.multi_dot([S, x, S]),
    "trace": lambda S, x: linalgx.trace(x),
    "diagonal": lambda S, x: linalgx.diagonal(x, offset=1),
    "matrix_transpose": lambda S, x: linalgx.matrix_transpose(x),
    "solve": linalgx.solve,
    "solve, vector": lambda S, x: linalgx.solve(S, x[:, 0]),
    "solve, left": lambda S, x: linalgx.solve(S, x, left=False),
    "solve_triangular": lambda S, x: linalgx.solve_triangular(S, x, upper=True),
    "cholesky_solve": lambda S, x: linalgx.cholesky_solve(x, S),
    "lu_solve": lambda S, x: linalgx.lu_solve(*linalgx.lu_factor(S), x),
    "ldl_solve": lambda S, x: linalgx.ldl_solve(*linalgx.ldl_factor(S, hermitian=True), x, hermitian=True),
    "lstsq": lambda S, x: linalgx.lstsq(S, x).solution,
}


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_transpose(name: str, dtype: str, rng) -> None:
    S, x = jnp.asarray(positive_definite(rng, dtype, 4)), jnp.asarray(general(rng, dtype, 4, 4))
    f = functools.partial(LINEAR[name], S)
    y = jnp.asarray(general(rng, dtype, *f(x).shape))
    (pulled,) = jax.linear_transpose(f, x)(y)
    np.testing.assert_allclose(jnp.sum(pulled * x), jnp.sum(y * f(x)), rtol=1e-11)
    (mapped,) = jax.linear_transpose(jax.vmap(f), jnp.stack([x, x]))(jnp.stack([y, 2 * y]))
    np.testing.assert_allclose(mapped, jnp.stack([pulled, 2 * pulled]), rtol=1e-11, atol=1e-11)


def test_what_is_not_linear_has_no_transpose() -> None:
    x = jnp.ones((3, 3))
    with pytest.raises(ValueError, match="matmul: not linear in its arguments"):
        jax.linear_transpose(lambda x: linalgx.matmul(x, x), x)(x)
    along = lambda f, v: lambda x: jax.jvp(f, (x,), (v,))[1]
    with pytest.raises(ValueError, match="matrix_exp: not linear in its arguments"):
        jax.linear_transpose(lambda v: along(along(linalgx.matrix_exp, v), v)(x), x)(x)


# functions of S and x, linear in x, which is a factor that a derivative rule keeps
LINEAR_IN_FACTORS = {
    "gradient of vecdot": lambda S, x: jax.grad(lambda y: jnp.sum(linalgx.vecdot(y, x)))(S),
    "derivative of matmul": lambda S, x: jax.jvp(lambda y: linalgx.matmul(y, x), (S,), (S,))[1],
    "gradient of two products": lambda S, x: jax.grad(lambda y: jnp.sum(linalgx.multi_dot([y, x, S])))(S),
    "derivative of solve": lambda S, x: jax.jvp(lambda A: linalgx.solve(A, x), (S,), (S,))[1],
    "gradient of solve": lambda S, x: jax.grad(lambda A: jnp.sum(linalgx.solve(A, x)))(S),
    "gradient of lu_solve": lambda S, x: jax.grad(lambda A: jnp.sum(linalgx.lu_solve(*linalgx.lu_factor(A), x)))(S),
    "gradient of cholesky_solve": lambda S, x: jax.grad(lambda L: jnp.sum(linalgx.cholesky_solve(x, L)))(S),
    "gradient of lstsq": lambda S, x: jax.grad(lambda A: jnp.sum(linalgx.lstsq(A, x).solution))(S),
    "in jit": jax.jit(lambda S, x: jax.grad(lambda y: jnp.sum(linalgx.matmul(y, x)))(S)),
}


@pytest.mark.parametrize("name", LINEAR_IN_FACTORS)
def test_linear_transpose_in_factors_of_derivatives(name: str, rng) -> None:
    S, x, y = jnp.asarray(positive_definite(rng, "float64", 4)), *jnp.asarray(general(rng, "float64", 2, 4, 4))
    f = functools.partial(LINEAR_IN_FACTORS[name], S)
    expected = jnp.tensordot(y, jax.jacfwd(f)(x), 2)
    assert_close(jax.linear_transpose(f, x)(y)[0], expected, 1e-11, name)
    (mapped,) = jax.linear_transpose(jax.vmap(f), jnp.stack([x, x]))(jnp.stack([y, 2 * y]))
    assert_close(mapped, jnp.stack([expected, 2 * expected]), 1e-11, name)


def test_gradient_through_custom_linear_solve(rng) -> None:
    """Of a system whose matrix is applied by a derivative; jax.numpy's is the reference."""
    S, b = jnp.asarray(positive_definite(rng, "float64", 4)), jnp.asarray(general(rng, "float64", 4))

    def f(library, S, b):
        apply = lambda v: jax.grad(lambda A: jnp.sum(library.matmul(A @ S, v)))(S)[0]
        solve = lambda _, b: jnp.linalg.solve(jax.jacfwd(apply)(b), b)
        transpose_solve = lambda _, b: jnp.linalg.solve(jax.jacfwd(apply)(b).T, b)
        return jnp.sum(jax.lax.custom_linear_solve(apply, b, solve, transpose_solve) ** 2)

    ours, theirs = (jax.grad(functools.partial(f, library), (0, 1))(S, b) for library in (linalgx, jnp))
    assert_close(ours, theirs, 1e-10, "custom_linear_solve")


def test_residual_that_is_not_linear_has_no_transpose() -> None:
    x = jnp.eye(3)
    with pytest.raises(ValueError, match=r"linalgx.inv.bwd: not linear in its arguments \[0\]"):
        jax.linear_transpose(jax.grad(lambda x: jnp.sum(linalgx.inv(x))), x)(x)
    with pytest.raises(ValueError, match=r"linalgx.solve.bwd: not linear in its arguments"):
        jax.linear_transpose(lambda x: jax.grad(lambda y: jnp.sum(linalgx.solve(x, y)))(x), x)(x)
