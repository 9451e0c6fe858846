"""The suite runs as strictly as JAX can be set: x64, no implicit promotion of dtype or rank, two CPU devices."""

import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(autouse=True)
def _quick_compilation(request: pytest.FixtureRequest):
    """Thousands of small programs: most of their time would go into optimising them. A test may ask for that."""
    jax.config.update("jax_disable_most_optimizations", request.node.get_closest_marker("optimized") is None)


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Each compiled program takes some ten memory maps, and a process dies of its 65531st (Linux)."""
    yield
    jax.clear_caches()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the name of the test: the same numbers in every run and in every order."""
    return np.random.default_rng(list(request.node.name.encode()))
