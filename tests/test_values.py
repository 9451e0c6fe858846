"""Every case of the table against its reference, one matrix and batches of them, in every dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.operations import CASES, FIRST_CASES
from tests.operations.case import Case, assert_close, tolerance

# of each function one case in every dtype, of the others one real and one complex dtype in every run
CASE_DTYPES = [
    pytest.param(
        case,
        dtype,
        id=f"{case}-{dtype}",
        marks=() if case in FIRST_CASES or dtype in ("float64", "complex64") else pytest.mark.slow,
    )
    for case in CASES
    for dtype in case.dtypes
]


def _size(args: tuple) -> int:
    return max([max(np.shape(x), default=1) for x in args if hasattr(x, "shape")], default=1)


@pytest.mark.parametrize(("case", "dtype"), CASE_DTYPES)
def test_value(case: Case, dtype: str, rng: np.random.Generator) -> None:
    args = case.arrays(rng, dtype)
    out = case(*map(jnp.asarray, args))
    if case.reference is not None:
        wide = [x.astype(np.promote_types(x.dtype, np.float64)) if x.dtype.kind in "fc" else x for x in args]
        assert_close(case.view(out), case.view(case.reference(*wide)), tolerance(dtype, _size(args), case.condition))
    for leaf in jax.tree.leaves(out):
        single = dtype in ("float32", "complex64")
        assert leaf.dtype in ([jnp.float32, jnp.complex64] if single else [jnp.float64, jnp.complex128]) or (
            jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == bool
        ), leaf.dtype


BATCHED = [
    pytest.param(case, batch, id=f"{case}-{batch}")
    for case in CASES
    if case.batchable
    for batch in ([(3,), (0,), (0, 2), (2, 1)] if case in FIRST_CASES else [(3,)])
]


@pytest.mark.parametrize(("case", "batch"), BATCHED)
def test_leading_axes_are_a_batch(case: Case, batch: tuple[int, ...], rng: np.random.Generator) -> None:
    dtype = case.dtypes[-1] if batch == (3,) else "float64"
    if 0 in batch:
        one = case.arrays(rng, dtype)
        out = case(*(jnp.zeros((*batch, *x.shape), x.dtype) for x in one))
        shapes = jax.eval_shape(case, *one)
        jax.tree.map(lambda x, y: np.testing.assert_equal(x.shape, (*batch, *y.shape)), out, shapes)
        return
    args = case.arrays(rng, dtype, batch)
    together = case.view(case(*map(jnp.asarray, args)))
    flat = [x.reshape(int(np.prod(batch)), *x.shape[len(batch) :]) for x in args]
    single = [case.view(case(*(jnp.asarray(x[i]) for x in flat))) for i in range(len(flat[0]))]
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs).reshape(*batch, *xs[0].shape), *single)
    assert_close(together, stacked, tolerance(dtype, _size(args), case.condition))
