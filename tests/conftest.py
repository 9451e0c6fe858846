"""The suite runs as strictly as JAX can be set: x64, no implicit promotion of dtype or rank, two CPU devices."""

import os

import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)

if jax.__version_info__ < (0, 11):
    # XLA's other emitters of loops: the loops are the same, and compiled in a third of the time
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"


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
