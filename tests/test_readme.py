"""The ten lines of the README run, and give what they say."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_ten_lines() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(program, names)
        slope = jax.grad(names["polar"])(jnp.eye(2))
    # d sum(A Q) = sum(dA) + sum((dA - dA^T) / 2) at A = Q = I
    np.testing.assert_allclose(slope, np.ones((2, 2)), atol=1e-12)
    assert np.all(np.isfinite(names["hessian"]))
