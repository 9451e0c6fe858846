"""The door of every public function: compiled once, arguments promoted and checked, errors that name what is wrong.

A public function is decorated with :func:`public` and begins with the checks that it needs::

    @public("upper")
    def cholesky(a, *, upper=False):
        a = square_matrix("cholesky", a=a)

An error is one sentence: the function, the argument, what was expected and what came.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import operator
import reprlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from linalgx._core.composite import composite
from linalgx._core.errors import LinAlgError, Reported, collect_reports, deliver
from linalgx._core.operation import house_numerics

Function = TypeVar("Function", bound=Callable[..., Any])
HALF = (jnp.dtype(jnp.float16), jnp.dtype(jnp.bfloat16))
NATIVE = tuple(map(jnp.dtype, (jnp.float32, jnp.float64, jnp.complex64, jnp.complex128)))
_NATIVE = ", ".join(dtype.name for dtype in NATIVE)


def public(*static: str, users_precision: bool = False, lists: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Make a function public: under jit, its call checked, 16-bit floats out for 16-bit floats in, failures reported.

    Args:
        static: the names of the arguments that are not arrays.
        users_precision: products run at the precision that the user has set for JAX instead of the highest, and
            16-bit floats as JAX itself multiplies them.
        lists: the names of static arguments that may be lists, too.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        check = functools.partial(_checked_call, function.__name__, signature, static)

        @functools.wraps(function)
        def body(*args: Any, **kwargs: Any) -> Any:
            call = check(args, kwargs)
            half = None if users_precision else _half_precision(call.arguments, static)
            numerics = contextlib.nullcontext() if users_precision else house_numerics()
            with numerics, collect_reports() as reports:
                out = function(*call.args, **call.kwargs)
            out = out if half is None else jax.tree.map(functools.partial(_to_half, half), out)
            return Reported(out, reports) if reports else out

        # inline: the operations stand in the caller's program, where they are put in turn (linalgx._core.in_turn)
        compiled: Callable[..., Any] = jax.jit(body, static_argnames=static, inline=True)
        compiled = _with_tuples(compiled, [*signature.parameters], lists) if lists else compiled

        @functools.wraps(function)
        def entry(*args: Any, **kwargs: Any) -> Any:
            try:
                out = compiled(*args, **kwargs)
            except (TypeError, ValueError, OverflowError) as error:
                # what JAX refuses before it traces
                if not str(error).startswith("linalgx."):
                    check(args, kwargs)
                    raise
                # the message says all: the traceback ends at the caller's line, without the frames of the checks
                raise type(error)(str(error)) from None
            if type(out) is not Reported:
                return out
            try:
                return deliver(out)
            except LinAlgError as failure:
                raise failure.with_traceback(None) from None

        return cast(Function, entry)

    return decorate


def _with_tuples(function: Callable[..., Any], parameters: list[str], names: tuple[str, ...]) -> Callable[..., Any]:
    """The function with those of the arguments ``names`` that are lists made tuples, which can be static."""
    places = {parameters.index(name) for name in names}
    return lambda *args, **kwargs: function(
        *(_without_lists(value) if place in places else value for place, value in enumerate(args)),
        **{name: _without_lists(value) if name in names else value for name, value in kwargs.items()},
    )


def _without_lists(value: Any) -> Any:
    return tuple(map(_without_lists, value)) if isinstance(value, list | tuple) else value


def _checked_call(
    function: str, signature: inspect.Signature, static: tuple[str, ...], args: Any, kwargs: Any
) -> inspect.BoundArguments:
    """The arguments of a call by their names, with flags as bool; raise if they are not of the kind that it takes."""
    try:
        call = signature.bind(*args, **kwargs)
    except TypeError as error:
        names = ", ".join(signature.parameters)
        raise TypeError(f"linalgx.{function}: {error}; its arguments are {names}") from None
    for name, value in call.arguments.items():
        if name not in static:
            _require_arrays(function, name, value)
            continue
        _require_static(function, name, value)
        kind = _KINDS.get(signature.parameters[name].annotation)
        call.arguments[name] = value if kind is None else kind(function, name, value)
    return call


def _require_arrays(function: str, name: str, value: Any) -> None:
    """Raise unless all leaves of ``value`` are what JAX can take for an array."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(value)[0]:
        try:
            jax.typeof(leaf)
        except (TypeError, ValueError, OverflowError):
            label = name + jax.tree_util.keystr(path)
            raise TypeError(
                f"linalgx.{function}: {label} must be an array of numbers, but {describe(leaf)} came"
            ) from None


def _require_static(function: str, name: str, value: Any) -> None:
    """Raise unless ``value`` can be part of the key of a compiled program."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        raise TypeError(
            f"linalgx.{function}: {name} must be static, known when the program is traced, but a traced array came; "
            "pass a Python value, or make it a static argument of the function that is jitted"
        )
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"linalgx.{function}: {name} must be a hashable Python value (a tuple, not a list), "
            f"but {describe(value)} came"
        ) from None


def _flag(function: str, name: str, value: Any) -> bool:
    if not (isinstance(value, bool | np.bool_ | int | np.integer) and value in (0, 1)):
        raise TypeError(f"linalgx.{function}: {name} must be True or False, but {describe(value)} came")
    return bool(value)


def _dtype(function: str, name: str, value: Any) -> Any:
    try:
        kinds = jnp.number, jnp.bool_
        known = value is None or any(jnp.issubdtype(jnp.dtype(value), kind) for kind in kinds)
    except TypeError:
        known = False
    # NumPy takes a number for its dtype, JAX does not
    known = known and not isinstance(value, np.generic | np.ndarray | jax.Array)
    if not known:
        raise TypeError(f"linalgx.{function}: {name} must be a dtype of numbers or None, but {describe(value)} came")
    return value


def _precision(function: str, name: str, value: Any) -> Any:
    number = jax.ShapeDtypeStruct((), jnp.float32)
    try:
        jax.eval_shape(functools.partial(jnp.dot, precision=value), number, number)
    except (TypeError, ValueError):
        raise ValueError(
            f"linalgx.{function}: {name} must be None or a precision of jax.lax, but {describe(value)} came"
        ) from None
    return value


_KINDS = {"bool": _flag, "DTypeLike | None": _dtype, "jax.lax.PrecisionLike": _precision}
"""How a static argument is checked, by its annotation."""


_TOLERANCES = ("atol", "rtol", "rcond", "tol")
"""Arguments that are arrays, but do not decide the dtype of a result."""


def _half_precision(arguments: dict[str, Any], static: tuple[str, ...]) -> Any:
    """The 16-bit dtype that is asked for, or that all inexact arrays among the arguments of a call share, or None."""
    if arguments.get("dtype") is not None:
        dtypes = {jnp.dtype(arguments["dtype"])}
    else:
        leaves = jax.tree.leaves([x for name, x in arguments.items() if name not in (*_TOLERANCES, *static)])
        arrays = (x for x in leaves if isinstance(x, jax.Array | np.ndarray | np.generic))
        dtypes = {x.dtype for x in arrays if jnp.issubdtype(x.dtype, jnp.inexact)}
    only = dtypes.pop() if len(dtypes) == 1 else None
    return only if only in HALF else None


def _to_half(half: Any, x: jax.Array) -> jax.Array:
    return x.astype(half) if x.dtype == jnp.float32 else x


# --- arrays


def array(function: str, **named: Any) -> jax.Array:
    """The one argument in ``named`` as an array of any dtype."""
    ((name, x),) = named.items()
    if isinstance(x, list | tuple):
        raise TypeError(f"linalgx.{function}: {name} must be an array, but a {type(x).__name__} came; use jnp.asarray")
    numeric = isinstance(x, jax.Array | np.ndarray | np.generic | int | float | complex)
    if not numeric and not hasattr(x, "__jax_array__"):
        raise TypeError(f"linalgx.{function}: {name} must be an array, but {describe(x)} came")
    x = jnp.asarray(x)
    if not (jnp.issubdtype(x.dtype, jnp.number) or x.dtype == bool):
        raise TypeError(f"linalgx.{function}: {name} must be an array of numbers, but its dtype is {x.dtype}")
    return x


def inexact_arrays(function: str, **named: Any) -> list[jax.Array]:
    """The arguments in ``named``, promoted together to one of float32, float64, complex64, complex128."""
    arrays = [array(function, **{name: x}) for name, x in named.items()]
    dtype = _inexact(_promoted(function, dict(zip(named, arrays, strict=True))))
    if dtype not in NATIVE:
        raise TypeError(f"linalgx.{function}: {' and '.join(named)} must promote to one of {_NATIVE}, but {dtype} came")
    return [x.astype(dtype) for x in arrays]


def promoted_arrays(function: str, **named: Any) -> list[jax.Array]:
    """The arguments in ``named`` as arrays of the dtype to which they promote together, whichever it is."""
    arrays = [array(function, **{name: x}) for name, x in named.items()]
    dtype = _promoted(function, dict(zip(named, arrays, strict=True)))
    return [x.astype(dtype) for x in arrays]


def _promoted(function: str, named: dict[str, Any]) -> Any:
    try:
        return jnp.result_type(*named.values())
    except ValueError:
        # JAX can be told to promote nothing
        dtypes = " and ".join(f"{name} of dtype {jnp.result_type(x)}" for name, x in named.items())
        raise TypeError(f"linalgx.{function}: {dtypes} have no common dtype; convert them") from None


def inexact_array(function: str, **named: Any) -> jax.Array:
    """The one argument in ``named`` as an array of float32, float64, complex64 or complex128."""
    (x,) = inexact_arrays(function, **named)
    return x


def _inexact(dtype: Any) -> Any:
    if dtype in HALF:
        return jnp.dtype(jnp.float32)
    if jnp.issubdtype(dtype, jnp.inexact):
        return dtype
    return jnp.dtype(jnp.float64 if dtype.itemsize == 8 else jnp.float32)


def integer_array(function: str, **named: Any) -> jax.Array:
    """The one argument in ``named`` as an array of int32."""
    ((name, _),) = named.items()
    x = array(function, **named)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"linalgx.{function}: {name} must be an array of integers, but its dtype is {x.dtype}")
    # what does not fit is out of every range: it must not wrap around into one
    given, kept = jnp.iinfo(x.dtype), jnp.iinfo(jnp.int32)
    low, high = max(int(given.min), int(kept.min)), min(int(given.max), int(kept.max))
    return (jnp.clip(x, low, high) if given.max > kept.max else x).astype(jnp.int32)


# --- shapes


def matrices(function: str, **named: Any) -> list[jax.Array]:
    """The arguments in ``named``, promoted together, each with at least two axes."""
    arrays = inexact_arrays(function, **named)
    for name, x in zip(named, arrays, strict=True):
        require_matrix(function, **{name: x})
    return arrays


def matrix(function: str, **named: Any) -> jax.Array:
    """The one argument in ``named`` as a matrix or a batch of matrices, shape (..., m, n)."""
    (x,) = matrices(function, **named)
    return x


def square_matrix(function: str, **named: Any) -> jax.Array:
    """The one argument in ``named`` as a square matrix or a batch of square matrices, shape (..., n, n)."""
    x = matrix(function, **named)
    require_square(function, **dict.fromkeys(named, x))
    return x


def require_matrix(function: str, **named: jax.Array) -> None:
    """Raise unless the argument has at least two axes."""
    ((name, x),) = named.items()
    if x.ndim < 2:
        raise ValueError(f"linalgx.{function}: {name} must have at least two axes, but its shape is {x.shape}")


def require_square(function: str, **named: jax.Array) -> None:
    """Raise unless the last two axes of the argument are equal."""
    ((name, x),) = named.items()
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"linalgx.{function}: {name} must be square in its last two axes, but its shape is {x.shape}")


def broadcast_batches(function: str, **named: jax.Array) -> list[jax.Array]:
    """The matrices in ``named`` with their leading axes broadcast against one another."""
    return broadcast_leading_axes(function, [2] * len(named), **named)


def broadcast_leading_axes(function: str, core: Sequence[int], **named: jax.Array) -> list[jax.Array]:
    """The arguments in ``named``, of which ``core`` tells the number of trailing axes, with equal leading axes."""
    leading = [x.shape[: x.ndim - axes] for axes, x in zip(core, named.values(), strict=True)]
    try:
        batch = jax.lax.broadcast_shapes(*leading)
    except ValueError:
        shapes = " and ".join(f"{name} of shape {x.shape}" for name, x in named.items())
        raise ValueError(f"linalgx.{function}: the batch axes of {shapes} do not broadcast") from None
    return [
        jnp.broadcast_to(x, (*batch, *x.shape[x.ndim - axes :])) for axes, x in zip(core, named.values(), strict=True)
    ]


def real_array(function: str, like: jax.Array, **named: Any) -> jax.Array:
    """The one argument in ``named`` as a real array of the precision of ``like``."""
    ((name, _),) = named.items()
    x = array(function, **named)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise TypeError(f"linalgx.{function}: {name} must be real, but its dtype is {x.dtype}")
    return x.astype(jnp.finfo(like.dtype).dtype)


def tolerance(function: str, like: jax.Array, **named: Any) -> jax.Array | None:
    """The one argument in ``named`` as a real number for each matrix of ``like``; None if it is None."""
    ((name, value),) = named.items()
    if value is None:
        return None
    x, batch = real_array(function, like, **named), like.shape[:-2]
    try:
        return jnp.broadcast_to(x, batch)
    except ValueError:
        raise ValueError(
            f"linalgx.{function}: {name} must broadcast to the batch axes {batch}, but its shape is {x.shape}"
        ) from None


# --- linear systems


def linear_system(
    function: str, left: bool = True, vector: bool = True, **named: jax.Array
) -> tuple[jax.Array, jax.Array, Callable[[jax.Array], jax.Array]]:
    """The square matrix and the right-hand side of A X = B (``left``) or X A = B as operands of one batched solve.

    A right-hand side with one axis is a vector (if ``vector`` allows it). The right-hand sides of a single matrix,
    however many axes they have, become the columns (rows, for X A = B) of one; otherwise the batches broadcast.

    Returns:
        A of shape (..., n, n), B of shape (..., n, k) or (..., k, n) with the same leading axes, and the function
        that brings a solution back to the shape that the caller gave.
    """
    (a, A), (b, B) = named.items()
    require_square(function, **{a: A})
    n = A.shape[-1]
    if vector and B.ndim == 1:
        if B.shape[0] != n:
            raise ValueError(f"linalgx.{function}: {b} has {B.shape[0]} elements, but {a} is {n} x {n}")
        column = -1 if left else -2
        A, B, restore = linear_system(function, left, False, **{a: A, b: _matrix_of_vector(B, column=column)})
        return A, B, lambda X: _vector_of_matrix(restore(X), column=column)
    require_matrix(function, **{b: B})
    if B.shape[-2 if left else -1] != n:
        have = f"{B.shape[-2]} rows" if left else f"{B.shape[-1]} columns"
        hint = hint_at_vectors(A, **{b: B}) if left else ""
        raise ValueError(f"linalgx.{function}: {b} has {have}, but {a} is {n} x {n}{hint}")
    if A.ndim == 2 and B.ndim > 2:
        in_rows = jnp.moveaxis(B, -2, 0) if left else B
        rest = math.prod(in_rows.shape[1:] if left else in_rows.shape[:-1])
        folded = in_rows.reshape((n, rest) if left else (rest, n))
        return A, folded, lambda X: jnp.moveaxis(X.reshape(in_rows.shape), 0, -2) if left else X.reshape(B.shape)
    A, B = broadcast_batches(function, **{a: A, b: B})
    return A, B, lambda X: X


def hint_at_vectors(A: jax.Array, **named: jax.Array) -> str:
    """What to add to an error about the shape of a right-hand side that is a batch of vectors, one for each matrix."""
    ((b, B),) = named.items()
    is_batch_of_vectors = B.ndim > 1 and B.shape == A.shape[:-1]
    return f"; for a batch of vectors give {b}[..., None], or use jax.vmap" if is_batch_of_vectors else ""


@composite()
def _matrix_of_vector(x: jax.Array, *, column: int) -> jax.Array:
    return jnp.expand_dims(x, column)


@composite()
def _vector_of_matrix(x: jax.Array, *, column: int) -> jax.Array:
    return jnp.squeeze(x, column)


# --- options


def require_option(function: str, name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise unless ``value`` is one of ``allowed``."""
    if not any(value is option or (type(value) is type(option) and value == option) for option in allowed):
        options = ", ".join(repr(option) for option in allowed)
        raise ValueError(f"linalgx.{function}: {name} must be one of {options}, but {describe(value)} came")


def integer(function: str, name: str, value: Any) -> int:
    """``value`` as a Python integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"linalgx.{function}: {name} must be an integer, but {describe(value)} came") from None


def normalize_axis(function: str, name: str, axis: Any, ndim: int) -> int:
    """``axis`` counted from the front."""
    axis = integer(function, name, axis)
    if ndim == 0:
        raise ValueError(f"linalgx.{function}: {name} is {axis}, but a number has no axes")
    if not -ndim <= axis < ndim:
        raise ValueError(f"linalgx.{function}: {name} must be between {-ndim} and {ndim - 1}, but {axis} came")
    return axis % ndim


def normalize_axes(function: str, name: str, axes: Any, ndim: int) -> tuple[int, ...]:
    """``axes``, one integer or several, counted from the front, all different."""
    given = axes if isinstance(axes, tuple) else (axes,)
    normalized = tuple(normalize_axis(function, name, axis, ndim) for axis in given)
    if len(set(normalized)) != len(normalized):
        raise ValueError(f"linalgx.{function}: {name} must be different axes, but {axes} came")
    return normalized


def describe(value: Any) -> str:
    """``value`` in the words of an error."""
    if value is None:
        return "None"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{reprlib.repr(value)} ({type(value).__name__})"
