"""What runs on this machine: versions, devices, x64, and the kernels that are selected."""

from __future__ import annotations

import platform
from importlib.metadata import version

import jax
import jax.numpy as jnp

from linalgx._core.batch_minor import LARGEST
from linalgx._kernels.crossovers import SMALLEST_BATCH
from linalgx._kernels.select import smallest_batch


def show_config() -> None:
    """Print what runs here: versions, devices, whether x64 is on, and which kernels are selected.

    The table at the end is for the default platform and the default dtype. It gives, for each operation and the order
    n of its matrices (the longest axis), the smallest batch for which the batch-minor kernel runs; a smaller batch,
    and one marked with a dash, runs on LAPACK's kernel (on a GPU on cuSOLVER's).

    Example:
        >>> import linalgx
        >>> linalgx.show_config()  # doctest: +ELLIPSIS
        linalgx 0.1.0...
    """
    print("\n".join([*_machine(), "", *_kernels()]))


def _machine() -> list[str]:
    devices = ", ".join(f"{device.platform}:{device.id} ({device.device_kind})" for device in jax.devices())
    x64 = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
    return [
        ", ".join(f"{package} {version(package)}" for package in ("linalgx", "jax", "jaxlib", "numpy")),
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        f"devices: {devices}",
        f"x64: {'on' if x64 else 'off'}, so that floats are {_default_dtype()}",
    ]


def _kernels() -> list[str]:
    backend, dtype = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend()), _default_dtype()
    if backend not in SMALLEST_BATCH:
        return [f"kernels on {backend}: not measured, so that none of the batch-minor kernels is selected"]
    orders = range(1, LARGEST + 1)
    smallest = {name: [smallest_batch(name, backend, n, dtype) for n in orders] for name in SMALLEST_BATCH[backend]}
    width = max(map(len, smallest))
    return [
        f"kernels on {backend}, {dtype}: the smallest batch for which the batch-minor kernel runs",
        "n".ljust(width) + "".join(f"{n:8}" for n in orders),
        *(name.ljust(width) + "".join(f"{batch or '-':>8}" for batch in row) for name, row in smallest.items()),
    ]


def _default_dtype() -> str:
    return str(jnp.result_type(float))
