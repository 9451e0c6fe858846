"""What `show_config` prints is what runs."""

import jax
import jax.numpy as jnp
import pytest

import linalgx
from linalgx._kernels.crossovers import SMALLEST_BATCH
from linalgx._kernels.select import use_batch_minor


@pytest.mark.parametrize("x64", [False, True])
def test_show_config(x64: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with jax.enable_x64(x64):
        linalgx.show_config()
    text = capsys.readouterr().out
    dtype = "float64" if x64 else "float32"
    assert f"linalgx {linalgx.__version__}, jax {jax.__version__}" in text
    assert f"x64: {'on' if x64 else 'off'}, so that floats are {dtype}\n" in text
    assert "cpu:0" in text
    assert "cpu:1" in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    for name in SMALLEST_BATCH["cpu"]:
        for n, smallest in enumerate(rows[name], 1):
            batch = 10**9 if smallest == "-" else int(smallest)
            assert use_batch_minor(name, "cpu", n, batch, jnp.dtype(dtype)) == (smallest != "-")
            assert smallest == "-" or not use_batch_minor(name, "cpu", n, batch - 1, jnp.dtype(dtype))


def test_show_config_of_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """JAX's name of the backend is not that of the platform."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    linalgx.show_config()
    assert "kernels on cuda, float64: the smallest batch" in capsys.readouterr().out
