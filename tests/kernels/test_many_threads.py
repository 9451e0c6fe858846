"""What runs otherwise on a GPU than on a CPU, where LAPACK's calls are cuSOLVER's: computed here, on the CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from linalgx._core.loops import many_threads, undivided
from linalgx._kernels import lapack, singular_values
from tests.operations.inputs import general


def _loops(function, *shape: int) -> bool:
    return "scan[" in str(jax.make_jaxpr(function)(jnp.zeros(shape, "float32")))


@pytest.mark.parametrize(
    ("function", "rows", "few"), [(lapack.geqrf, 260, 32), (lapack.lu_factor, 1030, 32)], ids=["qr", "lu"]
)
def test_few_large_matrices_go_one_by_one(function, rows, few) -> None:
    assert not _loops(function, 4, rows, rows)
    with many_threads(True):
        assert _loops(function, few, rows, rows)
        assert _loops(function, 2, 2, rows + 10, rows)
        assert not _loops(function, few + 1, rows, rows)
        assert not _loops(function, 1, rows, rows)
        assert not _loops(function, rows, rows)
        assert not _loops(function, 4, rows // 2, rows)
        with undivided(True):
            assert not _loops(function, 4, rows, rows)


@pytest.mark.parametrize(
    "function",
    [lapack.geqrf, lapack.lu_factor, functools.partial(singular_values.svd, full_matrices=True)],
    ids=["qr", "lu", "svd"],
)
def test_what_an_explicit_mesh_shares_out_stays_there(function) -> None:
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Explicit,))
    with many_threads(True), jax.set_mesh(mesh):
        A = jax.device_put(jnp.ones((4, 1040, 1030), "float32"), NamedSharding(mesh, P("b")))
        outs = jax.make_jaxpr(function)(A).out_avals
    assert all(x.sharding.spec[0] == "b" for x in outs)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_one_by_one_they_have_the_same_factors(dtype, rng) -> None:
    A = jnp.asarray(general(rng, dtype, 2, 2, 270, 260))
    with many_threads(True):
        ours = lapack.geqrf(A)
    for x, y in zip(ours, lapack.geqrf(A), strict=True):
        np.testing.assert_array_equal(x, y)


def test_factors_of_nan_are_nan_whatever_the_platform_makes_of_it(rng, monkeypatch) -> None:
    A = general(rng, "float32", 3, 5, 5)
    A[1, 4, 2] = np.nan
    A[2, 0, 0] = np.inf
    factors = [jnp.zeros((3, 5, 5), "float32"), jnp.zeros((3, 5), "int32")]
    monkeypatch.setattr(lapack, "_lu_factor", lambda A: factors)
    with many_threads(True):
        LU, _ = lapack.lu_factor(jnp.asarray(A))
    np.testing.assert_array_equal(jnp.isnan(LU).all(axis=(-2, -1)), [False, True, False])
    np.testing.assert_array_equal(LU[::2], 0)
