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
# # Least squares when the problem is bad
#
# Rank-deficient and ill-conditioned problems: the four results of `lstsq`, truncation, and a regularisation path that is found and differentiated
# with the same functions.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import linalgx

plt.style.use("linalgx.mplstyle")
jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)

# %% [markdown]
# ## The four results, at any rank
#
# Two columns of this design are the same quantity in other units: the rank is three, not four. NumPy leaves out the residuals in such a case; here
# shapes never depend on values, and all four results are always there, for every member of a batch.

# %%
height = rng.normal(1.7, 0.1, 30)
age = rng.uniform(20, 60, 30)
design = np.stack([np.ones(30), age, height, 100 * height], axis=1)
weight = 60 * height - 30 + 0.1 * age + rng.normal(0, 1, 30)

solution, residuals, rank, singular_values = linalgx.lstsq(design, weight)
print("solution       ", np.asarray(solution).round(4))
print("residuals      ", np.asarray(residuals).round(4), " NumPy:", np.linalg.lstsq(design, weight)[1])
print("rank           ", rank)
print("singular values", np.asarray(singular_values))

# %% [markdown]
# Of all solutions this is the shortest: the effect of the height is split between its two columns as 1 : 100. The derivative is that of the shortest
# solution at rank three, and finite. A finite difference that keeps the rank agrees; one that breaks it does not converge to anything.

# %%
slope = jax.jacfwd(lambda b: linalgx.lstsq(design, b).solution)(weight)
print("d solution / d b is the pseudoinverse:", np.abs(slope - np.linalg.pinv(design)).max())

scaled = lambda s: jnp.asarray(design) * jnp.array([1.0, 1.0, s, s])  # both columns of the height: the rank stays
exact = jax.jacfwd(lambda s: linalgx.lstsq(scaled(s), weight).solution)(1.0)
difference = (
    linalgx.lstsq(scaled(1 + 1e-5), weight).solution - linalgx.lstsq(scaled(1 - 1e-5), weight).solution
) / 2e-5
print("along the scale of the height:", np.asarray(exact).round(5), np.asarray(difference).round(5))

# %% [markdown]
# ## An ill-conditioned problem
#
# A signal was blurred by a Gaussian and measured with one part in a thousand of noise. The matrix of the blur is square and not singular, and its
# condition number makes the plain solution worthless.

# %%
n = 80
grid = np.linspace(0, 1, n)
truth = np.where((grid > 0.2) & (grid < 0.4), 1.0, 0.0) + 0.8 * np.exp(-(((grid - 0.7) / 0.07) ** 2))
blur = np.exp(-0.5 * ((grid[:, None] - grid) / 0.03) ** 2)
blur /= blur.sum(axis=1, keepdims=True)
measured = blur @ truth + 1e-3 * rng.standard_normal(n)
print(f"condition number {linalgx.cond(blur):.1e}")


# %% [markdown]
# **Truncation.** `rcond` drops the singular values below a fraction of the largest. **Ridge.** Minimising |A x − b|² + λ²|x|² is a least squares
# problem with more rows. Both are one call:


# %%
def ridge(log_lambda, b=measured):
    A = jnp.concatenate([blur, jnp.exp(log_lambda) * jnp.eye(n)])
    return linalgx.lstsq(A, jnp.concatenate([b, jnp.zeros(n)])).solution


plain = linalgx.lstsq(blur, measured).solution
truncated = linalgx.lstsq(blur, measured, rcond=5e-3)
print(f"plain: largest entry {np.abs(plain).max():.1e};  truncated: rank {truncated.rank}")

# %% [markdown]
# ## How much regularisation? A derivative tells
#
# Generalised cross-validation (Golub, Heath and Wahba 1979) predicts each measurement from the others:
# G(λ) = n |b − A x|² / (n − tr A A⁺_λ)². A coarse grid shows where its minimum in log λ lies,
# and Newton's method finds it; the derivatives go through `lstsq`.


# %%
@jax.jit
def gcv(log_lambda):
    A = jnp.concatenate([blur, jnp.exp(log_lambda) * jnp.eye(n)])
    B = jnp.concatenate([jnp.stack([measured, *np.eye(n)], axis=1), jnp.zeros((n, n + 1))])
    X = linalgx.lstsq(A, B).solution
    residual = measured - blur @ X[:, 0]
    trace = linalgx.trace(blur @ X[:, 1:])
    return jnp.log(n * linalgx.vecdot(residual, residual) / (n - trace) ** 2)


first = jax.jit(jax.grad(gcv))
second = jax.jit(jax.jacfwd(jax.grad(gcv)))
path = np.linspace(-12, 0, 61)
values = np.array([gcv(x) for x in path])
best = path[values.argmin()]
for i in range(5):
    step = first(best) / second(best)
    best = best - float(step)
    print(f"step {i}: lambda = {np.exp(best):.6f}, derivative {first(best):.1e}")
assert second(best) > 0  # a minimum

# %%
error = np.array([np.linalg.norm(ridge(x) - truth) for x in path])

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8))
left.plot(np.exp(path), values - values.min(), color="C0", label="log G(λ), from its minimum")
left.plot(np.exp(path), np.log(error / error.min()), color="C4", label="log of the error, from its minimum")
left.plot(np.exp(best), gcv(best) - values.min(), "o", color="C1", label="found by Newton's method")
left.set(
    xscale="log", xlabel="λ", ylabel="logarithm", ylim=(-0.2, 6), title="Cross-validation, and the error it cannot see"
)
left.legend(fontsize="small")
right.plot(grid, truth, color="k", linewidth=1, label="truth")
right.plot(grid, measured, color="C4", linewidth=1, label="blurred and measured")
right.plot(grid, truncated.solution, color="C2", linewidth=1.2, label="truncated")
right.plot(grid, ridge(best), color="C0", label="ridge, λ by derivative")
right.set(xlabel="position", ylabel="signal", ylim=(-0.4, 1.7), title="The plain solution is off this plot by far")
right.legend(fontsize="small", ncols=2, loc="upper center")
plt.show()

# %% [markdown]
# ## The regularisation path and its tangents
#
# x(λ) is a smooth curve in n dimensions; `jacfwd` gives its tangent at every point.

# %%
shown = range(6, n, 9)
solutions = np.stack([ridge(x) for x in path])
tangent = jax.jit(jax.jacfwd(ridge))
fig, ax = plt.subplots()
for j, colour in zip(shown, plt.cm.viridis(np.linspace(0, 0.9, len(shown))), strict=True):
    ax.plot(path, solutions[:, j], color=colour, linewidth=1.3)
for x in np.arange(-8.0, -0.5, 1.5):
    value, slope = ridge(x), tangent(x)
    for j in shown:
        ax.plot([x - 0.3, x + 0.3], [value[j] - 0.3 * slope[j], value[j] + 0.3 * slope[j]], color="C1", linewidth=1.4)
ax.axvline(best, color="k", linestyle=":", label="chosen by cross-validation")
ax.plot([], [], color="C1", label="tangents by jacfwd")
ax.set(xlabel="log λ", ylabel="entries of the solution", ylim=(-1.5, 2), xlim=(-9, 0), title="Regularisation path")
ax.legend()
plt.show()

# %% [markdown]
# ## A batch of problems
#
# Leading axes are a batch, and `rcond` may be an array over it: one call solves the problem at twelve truncations.

# %%
rconds = np.logspace(-8, -1, 12)
results = linalgx.lstsq(np.broadcast_to(blur, (12, n, n)), np.broadcast_to(measured[:, None], (12, n, 1)), rcond=rconds)
for rcond, rank, residual, x in zip(
    rconds, results.rank, results.residuals[:, 0], results.solution[..., 0], strict=True
):
    print(
        f"rcond {rcond:.0e}: rank {rank:2}, |residual| {np.sqrt(residual):.1e}, error {np.linalg.norm(x - truth):9.2e}"
    )
