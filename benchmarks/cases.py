"""What ``python -m benchmarks small`` measures: operations and pipelines on many small matrices, and their gradients.

Each is written once, for any library of :mod:`benchmarks.libraries`; the functions of JAX also go through ``vmap``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.isolated import Beat
from benchmarks.libraries import AT_MOST, PEERS, Library, Missing, eager, library, measurable
from benchmarks.timing import Effort, Side, alone, compiled, interleaved

Arrays = tuple[np.ndarray, ...]


# --- inputs: arrays with the batch in front


def _general(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def _symmetric(rng: np.random.Generator, batch: int, n: int) -> np.ndarray:
    A = _general(rng, batch, n, n)
    return A + A.swapaxes(1, 2)


def _positive(rng: np.random.Generator, batch: int, n: int) -> np.ndarray:
    A = _general(rng, batch, n, n)
    return np.matmul(A, A.swapaxes(1, 2)) + n * np.eye(n)


def _matrix(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    return (_general(rng, batch, n, n),)


def _matrix_and_column(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    return _general(rng, batch, n, n), _general(rng, batch, n, 1)


def _two_matrices(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    return _general(rng, batch, n, n), _general(rng, batch, n, n)


def triangle_and_column(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    """A lower triangular matrix and one right-hand side."""
    return np.tril(_general(rng, batch, n, n)) + 2 * n * np.eye(n), _general(rng, batch, n, 1)


def _vector_and_positive(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    return _general(rng, batch, n), _positive(rng, batch, n)


def _kalman_inputs(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    """Mean x, covariance P, observation y, its matrix H, its noise R."""
    x, y, H = _general(rng, batch, n), _general(rng, batch, n), _general(rng, batch, n, n)
    return x, _positive(rng, batch, n), y, H, _positive(rng, batch, n)


# --- operations and pipelines


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of a library and arrays, its inputs, and what of its result has a derivative that is no accident."""

    function: Callable[..., Any]
    inputs: Callable[[np.random.Generator, int, int], Arrays]
    smooth: Callable[[Any], Any] = lambda out: out
    sizes: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8, 10, 12)


def _quadratic_form(la: Library, y: Any, A: Any) -> Any:
    return la.vecdot(y, la.solve(A, y[..., None])[..., 0])


def _squared_vectors(out: Any) -> Any:
    """Eigenvectors and singular vectors are known up to a sign."""
    return [x * x if x.ndim == 2 else x for x in out]


OPERATIONS: dict[str, Function] = {
    "cholesky": Function(lambda la, A: la.cholesky(A), lambda rng, *size: (_positive(rng, *size),)),
    "solve, 1 column": Function(lambda la, A, b: la.solve(A, b), _matrix_and_column),
    "solve, n columns": Function(lambda la, A, B: la.solve(A, B), _two_matrices),
    "solve_triangular": Function(lambda la, L, b: la.solve_triangular(L, b), triangle_and_column),
    "inv": Function(lambda la, A: la.inv(A), _matrix),
    "det": Function(lambda la, A: la.det(A), _matrix),
    "slogdet": Function(lambda la, A: tuple(la.slogdet(A)), _matrix, lambda out: out[1]),
    "matrix_norm": Function(lambda la, A: la.matrix_norm(A), _matrix),
    "lu": Function(lambda la, A: tuple(la.lu(A)), _matrix, lambda out: out[1:]),
    "lu_factor": Function(lambda la, A: tuple(la.lu_factor(A)), _matrix, lambda out: out[0]),
    "qr": Function(lambda la, A: tuple(la.qr(A)), _matrix),
    "eigh": Function(lambda la, A: tuple(la.eigh(A)), lambda rng, *size: (_symmetric(rng, *size),), _squared_vectors),
    "eigvalsh": Function(lambda la, A: la.eigvalsh(A), lambda rng, *size: (_symmetric(rng, *size),)),
    "svd": Function(lambda la, A: tuple(la.svd(A)), _matrix, _squared_vectors),
    "svdvals": Function(lambda la, A: la.svdvals(A), _matrix),
    "matrix_exp": Function(lambda la, A: la.matrix_exp(A), _matrix),
    "matmul": Function(lambda la, A, B: la.matmul(A, B), _two_matrices),
    "matvec": Function(lambda la, A, b: la.matmul(A, b), _matrix_and_column),
    "quadratic form": Function(_quadratic_form, _vector_and_positive),
}


def _log_density(la: Library, y: Any, S: Any) -> Any:
    """Of a normal distribution with covariance S, at y."""
    L = la.cholesky(S)
    z = la.solve_triangular(L, y)
    return -0.5 * (la.vecdot(z, z) + la.cholesky_logdet(L))


def _kalman_step(la: Library, x: Any, P: Any, y: Any, H: Any, R: Any) -> Any:
    """The gain, and mean and covariance after the observation y."""
    HP = la.matmul(H, P)
    K = la.matrix_transpose(la.solve(la.matmul(HP, la.matrix_transpose(H)) + R, HP))
    return K, x + la.matmul(K, y - la.matmul(H, x)), P - la.matmul(K, HP)


def _whitening(la: Library, x: Any, C: Any) -> Any:
    """C^(-1/2) x, and C^(-1/2)."""
    l, V = la.eigh(C)
    W = la.matmul(V * (1 / jnp.sqrt(l)), la.matrix_transpose(V))
    return la.matmul(W, x), W


def _nearest_rotation(la: Library, A: Any) -> Any:
    U, _, Vh = la.svd(A)
    d = la.det(la.matmul(U, Vh))
    return la.matmul(U * jnp.stack([jnp.ones_like(d), jnp.ones_like(d), d]), Vh)


PIPELINES: dict[str, Function] = {
    "log density": Function(_log_density, _vector_and_positive),
    "Kalman step": Function(_kalman_step, _kalman_inputs),
    "whitening": Function(_whitening, _vector_and_positive),
    "nearest rotation": Function(_nearest_rotation, _matrix, sizes=(3,)),
}

GROUPS = ("operation", "operation gradient", "pipeline", "pipeline gradient")


# --- cases


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement: a function of OPERATIONS or PIPELINES, alone or with its gradient, at one size and dtype."""

    group: str
    function: str
    n: int
    dtype: str
    elements: int = 1_000_000
    effort: Effort = dataclasses.field(default_factory=Effort)

    @property
    def name(self) -> str:
        """What ``--only`` looks at."""
        return f"grad {self.function}" if self.has_gradient else self.function

    @property
    def has_gradient(self) -> bool:
        """Whether the function and its gradient are measured, and not the function alone."""
        return self.group.endswith("gradient")

    @property
    def batch(self) -> int:
        """The number of matrices, divisible by 16 as round numbers are, if it is large."""
        batch = max(1, self.elements // self.n**2)
        return batch if batch < 1000 else batch - batch % 16

    @property
    def _functions(self) -> Function:
        return (PIPELINES if self.group.startswith("pipeline") else OPERATIONS)[self.function]

    def side_names(self) -> list[str]:
        """linalgx, linalgx with the batch on the last axis, the peers that can be measured, and a copy of the input."""
        if self.group == "operation":
            peers = [peer for peer in PEERS if measurable(peer)]
            return ["linalgx", *peers, "copy"]
        return ["linalgx", *(["linalgx, batch last"] if self.group.startswith("pipeline") else []), "jnp", "copy"]

    def inputs(self) -> Arrays:
        """The arrays, the same in every run."""
        arrays = self._functions.inputs(np.random.default_rng(0), self.batch, self.n)
        return tuple(x.astype(self.dtype) for x in arrays)

    def function_of(self, la: Library) -> Callable[..., Any]:
        """The function that JAX compiles, of arrays with the batch in front (operations) or of one member."""
        function = functools.partial(self._functions.function, la)
        if not self.has_gradient:
            return function
        return lambda *args: jax.value_and_grad(self._scalar(la, function), argnums=tuple(range(len(args))))(*args)

    def _scalar(self, la: Library, function: Callable[..., Any]) -> Callable[..., jax.Array]:
        """A scalar output as it is; of a vector x and a matrix X half the squares |x|^2 and |X 1|^2.

        A scalar that is linear in the outputs would have a gradient with respect to them that is the same for all
        members of the batch, and a product of many matrices with the same one is no batch of products.
        """

        def square(x: jax.Array) -> jax.Array:
            y = la.matmul(x, jnp.ones(x.shape[-1], x.dtype)) if x.ndim == 2 else x
            return 0.5 * la.vecdot(y, y)

        def scalar(*args: jax.Array) -> jax.Array:
            leaves = jax.tree.leaves(self._functions.smooth(function(*args)))
            return sum(square(x) if x.ndim else x for x in leaves)

        return scalar

    def side(self, name: str, arrays: Arrays) -> tuple[Side, float | None]:
        """One of the sides, and the seconds that it took to compile, if it was."""
        if name == "copy":
            return compiled(lambda *args: [x + 1 for x in args], *map(jnp.asarray, arrays))[0], None
        if name not in ("linalgx", "linalgx, batch last", "jnp"):
            return eager(name, self._functions.function, arrays), None
        function = self.function_of(library(name.split(",")[0]))
        if self.group == "operation":
            return compiled(function, *map(jnp.asarray, arrays))
        if name == "linalgx, batch last":
            last = [jnp.asarray(np.ascontiguousarray(np.moveaxis(x, 0, -1))) for x in arrays]
            return compiled(jax.vmap(function, in_axes=-1, out_axes=-1), *last)
        return compiled(jax.vmap(function), *map(jnp.asarray, arrays))

    def __call__(self, beat: Beat, skip: frozenset[str]) -> dict[str, Any]:
        """Measure all sides but those in ``skip``: times and seconds to compile, or errors."""
        _start_compiler()
        arrays = self.inputs()
        sides, seconds, errors = {}, {}, {}
        for name in self.side_names():
            if name in skip:
                continue
            beat(name, compiling=True)
            try:
                side, seconds[name] = self.side(name, arrays)
                beat(None)
                with alone():
                    beat(name)
                    jax.block_until_ready(side())
                sides[name] = side
            except Missing:
                continue
            except Exception as error:
                errors[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        beat(None)
        timings = interleaved(sides, self.effort, before=beat)
        return {"times": {name: self._figures(name, timings[name], seconds[name]) for name in sides}, "errors": errors}

    def _figures(self, name: str, timing: Any, seconds: float | None) -> dict[str, Any]:
        per_matrix = 1e9 / min(self.batch, AT_MOST.get(name, self.batch))
        return {
            "ns": per_matrix * timing.median,
            "iqr_ns": per_matrix * timing.iqr,
            "min_ns": per_matrix * timing.minimum,
            "rounds": timing.rounds,
            "compile_s": seconds,
        }


@functools.cache
def _start_compiler() -> None:
    """The first programs of a process take longer to compile, whichever they are."""
    A = jnp.eye(3)
    jax.jit(lambda A: jnp.linalg.solve(jnp.linalg.cholesky(A) @ A, A)).lower(A).compile()
    jax.jit(library("linalgx").cholesky).lower(A).compile()
