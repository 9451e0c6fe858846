"""Wrong arguments raise when traced: the right type, and a message that names function and argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from tests.operations import ERRORS, FIRST_CASES
from tests.operations.case import Case

ids = [f"{error[0]}-{i}" for i, error in enumerate(ERRORS)]


@pytest.mark.parametrize(("function", "args", "options", "kind", "message"), ERRORS, ids=ids)
def test_message(function, args, options, kind, message) -> None:
    with pytest.raises(kind, match=message):
        getattr(linalgx, function)(*args, **options)
    arrays = tuple(x for x in args if isinstance(x, np.ndarray))
    if arrays and len(arrays) == len(args) and all(x.dtype.kind in "fc" for x in arrays):
        with pytest.raises(kind, match=message):
            jax.eval_shape(lambda *xs: getattr(linalgx, function)(*xs, **options), *map(jnp.asarray, arrays))


@pytest.mark.parametrize("case", FIRST_CASES, ids=str)
@pytest.mark.parametrize("wrong", [None, [[1.0, 2.0], [3.0, 4.0]], "matrix"], ids=["None", "list", "string"])
def test_arguments_that_are_not_arrays(case: Case, wrong, rng) -> None:
    if case.function == "multi_dot" and isinstance(wrong, list):
        pytest.skip("multi_dot takes a sequence")
    args = case.arrays(rng, "float64")
    with pytest.raises(TypeError):
        case(wrong, *args[1:])


def test_linalg_error_is_numpys() -> None:
    assert issubclass(linalgx.LinAlgError, np.linalg.LinAlgError)
