"""The programs of the README run, and give what they say."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_programs() -> None:
    programs = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for program in programs:
            exec(program, names)
        slope = jax.grad(names["polar"])(jnp.eye(2))
    # d sum(A Q) = sum(dA) + sum((dA - dA^T) / 2) at A = Q = I
    np.testing.assert_allclose(slope, np.ones((2, 2)), atol=1e-12)
    assert np.all(np.isfinite(names["hessian"]))
    np.testing.assert_allclose(names["value"], -1.5)
    assert names["finite"].tolist() == [True, True, False, True]
    assert names["info"].tolist() == [0, 0, 1, 0]
    assert names["reason"] in README.read_text()
    # d of -y^T S^-1 y / 2 - log det(S) / 2 at S = I
    np.testing.assert_allclose(names["gradient"][0], 0.5 * (np.ones((3, 3)) - np.eye(3)), atol=1e-12)
