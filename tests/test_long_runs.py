"""What a long run asks for: bounded memory and caches, threads, pickling, programs that outlive their process."""

import copy
import gc
import os
import pathlib
import pickle
import resource
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import linalgx
from linalgx._core.primitive import _program as programs
from tests.operations.case import assert_close, tolerance
from tests.operations.inputs import hermitian, positive_definite, well_conditioned

DECOMPOSITIONS = {
    "cholesky": (positive_definite, linalgx.cholesky),
    "lu": (well_conditioned, linalgx.lu),
    "lu_factor": (well_conditioned, linalgx.lu_factor),
    "ldl_factor": (hermitian, linalgx.ldl_factor),
    "qr": (well_conditioned, linalgx.qr),
    "geqrf": (well_conditioned, linalgx.geqrf),
    "eigh": (hermitian, linalgx.eigh),
    "eig": (well_conditioned, linalgx.eig),
    "svd": (well_conditioned, linalgx.svd),
    "solve": (well_conditioned, lambda A: linalgx.solve(A, A[..., :1] ** 2)),
    "inv_ex": (well_conditioned, linalgx.inv_ex),
    "lstsq": (well_conditioned, lambda A: linalgx.lstsq(A[..., :2], A[..., 2:])),
    "pinv": (well_conditioned, linalgx.pinv),
    "slogdet": (well_conditioned, linalgx.slogdet),
    "det": (well_conditioned, linalgx.det),
    "cond": (well_conditioned, linalgx.cond),
    "matrix_exp": (well_conditioned, linalgx.matrix_exp),
    "norm": (well_conditioned, linalgx.norm),
}
each = pytest.mark.parametrize("name", DECOMPOSITIONS)


def batch(name: str, rng, n: int, members: int) -> jax.Array:
    make = DECOMPOSITIONS[name][0]
    shape = (n, n) if make is well_conditioned else (n,)
    return jnp.asarray(np.stack([make(rng, "float64", *shape) for _ in range(members)]))


def floating(function):
    """The function without its outputs that are integers, which have no cotangents."""
    return lambda A: [x for x in jax.tree.leaves(function(A)) if jnp.issubdtype(x.dtype, jnp.inexact)]


# --- memory and caches


def _work(i: int) -> None:
    """A call of each kind, of one of a few shapes."""
    n, members = 1 + i % 3, 1 + i % 2
    A = jnp.broadcast_to(jnp.eye(n) + jnp.ones((n, n)), (members, n, n))
    linalgx.cholesky(A)
    linalgx.solve(A, A)
    jax.vmap(linalgx.svd)(A)


def _peak() -> int:
    """The largest memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("calls", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_calls_leave_nothing_behind(calls: int) -> None:
    for i in range(12):
        _work(i)
    gc.collect()
    number, arrays, memory = programs.cache_info().currsize, len(jax.live_arrays()), _peak()
    for i in range(calls):
        _work(i)
    gc.collect()
    assert programs.cache_info().currsize == number
    assert len(jax.live_arrays()) == arrays
    assert _peak() - memory < 2**25


@pytest.mark.parametrize("shapes", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_caches_do_not_grow_with_shapes(shapes: int) -> None:
    def trace(i: int) -> None:
        A = jax.ShapeDtypeStruct((1 + i, 3, 3), jnp.float64)
        jax.eval_shape(jax.vmap(jax.grad(lambda A: jnp.sum(linalgx.svd(A).S) + linalgx.det(A))), A)

    trace(0)
    number = programs.cache_info().currsize
    for i in range(1, shapes):
        trace(i)
    gc.collect()
    assert programs.cache_info().currsize == number
    # by type: what isinstance asks of the objects of other libraries can warn
    assert not any(issubclass(type(x), jax.core.Tracer) for x in gc.get_objects())


# --- threads


@pytest.mark.parametrize("rounds", [1, pytest.param(200, marks=pytest.mark.slow)])
def test_eight_threads(rounds: int, rng) -> None:
    names = ["cholesky", "lu", "qr", "eigh", "svd", "solve", "det", "matrix_exp"]
    inputs = [batch(name, rng, 4, 5) for name in names]
    functions = [floating(DECOMPOSITIONS[name][1]) for name in names]
    expected = [f(A) for f, A in zip(functions, inputs, strict=True)]
    failures: list[BaseException] = []
    ready = threading.Barrier(len(names))

    def work(i: int) -> None:
        try:
            ready.wait()
            for round in range(rounds):
                k = (i + round) % len(names)
                for f in (functions[k], jax.jit(functions[k])):
                    assert_close(f(inputs[k]), expected[k], tolerance("float64", 4))
                gradient = jax.grad(lambda A, k=k: sum(jnp.sum(jnp.abs(x)) for x in functions[k](A)))
                assert jnp.all(jnp.isfinite(gradient(inputs[k])))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- copies


@each
def test_results_can_be_pickled_and_copied(name: str, rng) -> None:
    out = DECOMPOSITIONS[name][1](batch(name, rng, 3, 1))
    for twin in (pickle.loads(pickle.dumps(out)), copy.deepcopy(out), copy.copy(out)):
        assert type(twin) is type(out) or not isinstance(out, tuple)
        jax.tree.map(np.testing.assert_array_equal, twin, out)


@pytest.mark.parametrize("name", linalgx.__all__)
def test_functions_can_be_pickled_and_copied(name: str) -> None:
    function = getattr(linalgx, name)
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function


def test_errors_can_be_pickled() -> None:
    error = linalgx.LinAlgError("linalgx.solve: singular")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# --- programs that outlive their process

CACHED = """
    import jax, jax.numpy as jnp, linalgx
    from linalgx._kernels.select import prefer
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    events = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    A = jnp.broadcast_to(jnp.eye(3) + jnp.ones((3, 3)), (4, 3, 3))
    f = lambda A: jnp.sum(linalgx.eigh(A).eigenvectors) + linalgx.det(A)
    for path in ("batch_minor", "lapack"):
        with prefer(path):
            jax.block_until_ready(jax.jit(jax.vmap(jax.grad(f)))(A))
    print(*(events.count(f"/jax/compilation_cache/cache_{kind}") for kind in ("hits", "misses")))
"""


def _in_a_new_process(code: str, *args: str, **environment: str) -> str:
    root = pathlib.Path(linalgx.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), **environment}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


def test_the_persistent_cache_serves_the_next_process(tmp_path) -> None:
    runs = [_in_a_new_process(CACHED, JAX_COMPILATION_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    (_, first_misses), (hits, misses) = (map(int, run.split()) for run in runs)
    assert misses == 0
    assert hits >= first_misses > 0


# JAX vouches for the compatibility of most of LAPACK, but not of this
UNVOUCHED = [export.DisabledSafetyCheck.custom_call("lapack_dormqr_ffi")]
QUICK = ("cholesky", "eigh", "solve", "inv_ex", "cond")
EXPORTED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in DECOMPOSITIONS]
MEMBERS = 3


def _restored(function, *specifications):
    exported = export.export(jax.jit(function), disabled_checks=UNVOUCHED)(*specifications)
    return export.deserialize(exported.serialize(vjp_order=1))


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_for_a_symbolic_batch(name: str, rng) -> None:
    """A symbolic batch counts as a large one: the batch-minor kernel is exported, where there is one."""
    function, A = DECOMPOSITIONS[name][1], batch(name, rng, 4, MEMBERS)
    if name == "norm":
        function = linalgx.matrix_norm
    specification = jax.ShapeDtypeStruct((*export.symbolic_shape("b"), *A.shape[1:]), A.dtype)
    mapped = jax.vmap(function, in_axes=0)
    for f in (function, mapped):
        restored = _restored(f, specification).call(A)
        expected = f(A)
        assert jax.tree.structure(restored) == jax.tree.structure(expected)
        assert_close(restored, expected, tolerance("float64", 4, 100), name)
    parts = floating(mapped)
    values, pull = jax.vjp(parts, A)
    cotangents = [jnp.ones_like(x) for x in values]
    (gradient,) = _restored(parts, specification).vjp().call(A, *cotangents)
    assert_close(gradient, pull(cotangents)[0], tolerance("float64", 4, 1000), name)


@pytest.mark.slow
@each
def test_exported_as_it_is(name: str, rng) -> None:
    function, A = floating(DECOMPOSITIONS[name][1]), batch(name, rng, 10, MEMBERS)
    restored = _restored(function, A)
    values, pull = jax.vjp(function, A)
    assert_close(restored.call(A), values, tolerance("float64", 10, 100), name)
    cotangents = [jnp.ones_like(x) for x in values]
    (gradient,) = restored.vjp().call(A, *cotangents)
    assert_close(gradient, pull(cotangents)[0], tolerance("float64", 10, 1000), name)


def test_axes_of_two_symbolic_batches_broadcast(rng) -> None:
    A, B = batch("solve", rng, 3, 2), jnp.ones((5, 2, 3, 1))
    b, c = export.symbolic_shape("b, c")
    shapes = (b, 3, 3), (c, b, 3, 1)
    specifications = [jax.ShapeDtypeStruct(shape, A.dtype) for shape in shapes]
    for function in (linalgx.solve, linalgx.matmul, lambda A, B: linalgx.multi_dot([A, A, B])):
        restored = _restored(function, *specifications)
        assert_close(restored.call(A, B), function(A, B), tolerance("float64", 3, 10))


def test_norm_along_a_symbolic_axis() -> None:
    x = jnp.arange(7.0) * 1e200
    specification = jax.ShapeDtypeStruct(export.symbolic_shape("b"), x.dtype)
    for order in (1, 2, 3.5):
        f = lambda x, order=order: linalgx.vector_norm(x, ord=order)
        assert_close(_restored(f, specification).call(x), f(x), tolerance("float64", 7))
