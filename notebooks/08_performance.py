# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Performance: how to read a benchmark
#
# Part one reads the results that `python -m benchmarks small` wrote (they lie in `benchmarks/results/`): what a ratio means, where the
# package is faster and where it is not. Part two measures on this machine what decides most: where the batch lies, and what a compilation costs.

# %%
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import linalgx

plt.style.use("linalgx.mplstyle")

results = json.loads(pathlib.Path("../benchmarks/results/small.json").read_text())
rows = results["rows"]
print(*(f"{key}: {value}" for key, value in results["machine"].items()), sep="\n")

# %% [markdown]
# ## One row
#
# Each row is one case, dtype and order n, with the nanoseconds **per matrix** of each library. The sides took turns in one process; the median counts,
# the interquartile range says how far to trust it, and compilation is kept apart. `copy` is the time to read and write the matrices alone: nothing can be
# faster.

# %%
row = next(r for r in rows if (r["case"], r["dtype"], r["n"]) == ("cholesky", "float32", 3))
print(f"{row['case']}, n = {row['n']}, {row['dtype']}, {row['batch']:,} matrices a call")
for side, t in row["times"].items():
    compiled = "" if t["compile_s"] is None else f"   compiled in {t['compile_s']:.2f} s"
    print(f"  {side:8} {t['ns']:10.1f} ns   ± {t['iqr_ns']:.1f}{compiled}")

# %% [markdown]
# ## All rows
#
# A ratio above 1 means that linalgx is faster than `jax.numpy.linalg`. Look at the spread before the mean, and at what lies left of 1.

# %%
GROUPS = ["operation", "operation gradient", "pipeline", "pipeline gradient"]
fig, axes = plt.subplots(1, 2, sharey=True, figsize=(9.5, 4))
shift = np.random.default_rng(0).uniform(-0.3, 0.3, len(rows))
for ax, dtype in zip(axes, ("float32", "float64"), strict=True):
    for k, group in enumerate(GROUPS):
        chosen = [
            (r["jnp/linalgx"], r["n"], s)
            for r, s in zip(rows, shift, strict=True)
            if r["group"] == group and r["dtype"] == dtype and r["jnp/linalgx"]
        ]
        ratio, n, s = np.array(chosen).T
        points = ax.scatter(ratio, k + s, c=np.log2(n), cmap="viridis_r", s=14, alpha=0.8, vmin=1, vmax=3.3)
        ax.plot([np.exp(np.log(ratio).mean())] * 2, [k - 0.4, k + 0.4], color="C1", linewidth=2)
    ax.axvline(1, color="k", linewidth=0.9)
    ax.set(xscale="log", xlabel="time of jax.numpy.linalg / time of linalgx", title=dtype)
axes[0].set_yticks(range(len(GROUPS)), GROUPS)
axes[0].invert_yaxis()
bar = fig.colorbar(points, ax=axes, label="order n", ticks=np.log2(range(2, 9)))
bar.ax.set_yticklabels(range(2, 9))
fig.suptitle("Many small matrices: every case (dots), geometric mean (line)", fontsize="medium")
plt.show()

# %% [markdown]
# The entries that lose, from the worst:

# %%
slower = sorted((r for r in rows if r["jnp/linalgx"] and r["jnp/linalgx"] < 1), key=lambda r: r["jnp/linalgx"])
print(f"{len(slower)} of {sum(bool(r['jnp/linalgx']) for r in rows)} entries are slower than jax.numpy.linalg:")
for r in slower[:12]:
    print(f"  {r['jnp/linalgx']:.2f}  {r['case']}, n = {r['n']}, {r['dtype']}")
hangs = [r for r in rows if r["failed"]]
print(f"in {len(hangs)} entries jax.numpy.linalg did not finish: {sorted({r['case'] for r in hangs})}")

# %% [markdown]
# ## Layout, measured here
#
# The same program three ways: leading axes and no `vmap` (every operation converts), `vmap` over the leading axis (converted at the two ends), and `vmap`
# over the last axis (never converted).


# %%
def log_density(S, y):
    L = linalgx.cholesky(S)
    z = linalgx.solve_triangular(L, y, upper=False)
    return -0.5 * (linalgx.vecdot(z, z) + linalgx.cholesky_logdet(L))


def leading_axes(S, y):
    L = linalgx.cholesky(S)
    z = linalgx.solve_triangular(L, y[..., None], upper=False)[..., 0]
    return -0.5 * (linalgx.vecdot(z, z) + linalgx.cholesky_logdet(L))


def compiled(function, *args):
    """The compiled program, and the seconds to compile it."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    return program, time.perf_counter() - start


def median_seconds(programs, rounds=15):
    """Of each program, in turn: a shared machine drifts."""
    times = {name: [] for name in programs}
    for _ in range(rounds):
        for name, (program, args) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*args))
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(t[1:])) for name, t in times.items()}


batch = 100_000
table = {}
for n in (2, 3, 4, 6, 8):
    G = jax.random.normal(jax.random.key(n), (batch, n, n))
    S, y = linalgx.matmul(G, linalgx.matrix_transpose(G)) + jnp.eye(n), jnp.ones((batch, n))
    last = jnp.moveaxis(S, 0, -1) + 0.0, jnp.moveaxis(y, 0, -1) + 0.0
    sides = {
        "leading axes": (leading_axes, (S, y)),
        "vmap": (jax.vmap(log_density), (S, y)),
        "vmap, batch last": (jax.vmap(log_density, in_axes=-1), last),
    }
    programs = {name: (compiled(function, *args)[0], args) for name, (function, args) in sides.items()}
    table[n] = {name: 1e9 * t / batch for name, t in median_seconds(programs).items()}

fig, ax = plt.subplots()
for name in sides:
    ax.plot(list(table), [table[n][name] for n in table], "o-", label=name)
ax.set(
    xlabel="order n",
    ylabel="nanoseconds per matrix",
    ylim=(0, None),
    title=f"Log density of {batch:,} matrices, float32, this machine",
)
ax.legend()
plt.show()

# %% [markdown]
# ## What a compilation costs
#
# The kernels for small matrices are longer programs than a call of LAPACK, and compile longer. The table of crossovers counts that in: a kernel is selected
# where 1000 calls pay for it. `prefer` overrides the table, so that both sides can be measured.

# %%
from linalgx._kernels.select import prefer  # for experiments, not part of the public interface

S = jax.random.normal(jax.random.key(0), (10_000, 6, 6))
S = S + jnp.swapaxes(S, -1, -2)
programs, seconds_to_compile = {}, {}
for kernel in ("lapack", "batch_minor"):
    with prefer(kernel):
        program, seconds_to_compile[kernel] = compiled(jax.vmap(linalgx.eigvalsh), S)
    programs[kernel] = program, (S,)
seconds = median_seconds(programs, rounds=9)
for kernel in programs:
    print(f"{kernel:12} compiled in {seconds_to_compile[kernel]:5.2f} s, {1e3 * seconds[kernel]:6.2f} ms a call")
gain = seconds["lapack"] - seconds["batch_minor"]
paid = (seconds_to_compile["batch_minor"] - seconds_to_compile["lapack"]) / gain if gain > 0 else float("inf")
print(f"the compilation is paid back after {max(paid, 0):.0f} calls of 10,000 matrices")

calls = np.logspace(0, 4, 50)
fig, ax = plt.subplots(figsize=(7.5, 3.4))
for kernel, colour in (("lapack", "C4"), ("batch_minor", "C0")):
    ax.loglog(calls, seconds_to_compile[kernel] + calls * seconds[kernel], color=colour, label=f"{kernel} kernel")
ax.set(xlabel="number of calls", ylabel="seconds, compilation included", title="eigvalsh of 10,000 matrices 6 × 6")
ax.legend()
plt.show()

# %% [markdown]
# ## When to use what
#
# - Many matrices of up to 8 × 8: one `vmap` and one `jit` around the program for one matrix; the batch last if you can.
# - A few hundred small matrices: the table leaves them to LAPACK; nothing to do.
# - Large matrices: the time is LAPACK's or cuSOLVER's. Choose the factorisation: Cholesky before LU before SVD, and solve rather than invert.
# - A program that runs once: compile time counts most. JAX's compilation cache keeps it.
#
# What is selected on this machine:

# %%
linalgx.show_config()
