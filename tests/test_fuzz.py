"""Any combination of arguments works, or raises ValueError or TypeError in the words of linalgx."""

import inspect
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx

FUNCTIONS = [name for name in linalgx.__all__ if name not in ("LinAlgError", "raise_errors", "show_config")]

SIZES = st.sampled_from([0, 1, 2, 3, 3, 3, 9])
COMMON = ["float64", "float64", "float64", "float32", "complex128"]
DTYPES = st.sampled_from([*COMMON, "complex64", "float16", "bfloat16", "int64", "int32", "uint8", "int8", "bool"])


@st.composite
def shapes(draw) -> tuple[int, ...]:
    shape = draw(st.lists(SIZES, max_size=4))
    if len(shape) >= 2 and draw(st.booleans()):
        shape[-1] = shape[-2]
    return tuple(shape)


ARRAYS = st.builds(lambda shape, dtype: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)), shapes(), DTYPES)

NUMBERS = [
    0,
    1,
    3,
    -1,
    -7,
    2.5,
    1j,
    math.nan,
    math.inf,
    -math.inf,
    10**30,
    True,
    np.int64(2),
    np.float32(1.5),
    np.bool_(1),
]
CONTAINERS = [
    (),
    (0,),
    (0, 1),
    (-1, 0),
    (1, 1),
    ((0,), (1,)),
    ([0], [1]),
    [],
    [1.0, 2.0],
    [[1.0]],
    {},
    {"a": 1},
    {1},
    range(3),
]
CONTAINERS += [[np.ones(3), None], (np.ones((2, 3)), np.ones((3, 2))), [np.eye(3), "a"], frozenset()]
NAMES = ["", "fro", "nuc", "L", "matrix", "2", "float32", "highest", b"x"]
OBJECTS = [
    None,
    object(),
    len,
    int,
    jnp.float32,
    np.float64,
    ...,
    slice(None),
    NotImplemented,
    jax.lax.Precision.HIGHEST,
]
FOREIGN = [
    np.array(["a"]),
    np.array([None]),
    np.array([1], "datetime64[s]"),
    np.zeros(2, [("a", float)]),
    np.longdouble(1),
]
FOREIGN += [np.ma.array([1.0, 2.0]), memoryview(b"abc"), np.eye(3), np.array(2), np.array(1.5), np.array(math.nan)]
STRANGE = st.sampled_from([*NUMBERS, *CONTAINERS, *NAMES, *OBJECTS, *FOREIGN])

OPTIONS = {
    "UPLO": [None, "L", "U", "l"],
    "mode": ["reduced", "complete", "r", "raw"],
    "ord": [None, "fro", "nuc", 1, 2, -1, -2, 0, 3.5, math.inf, -math.inf],
    "p": [None, "fro", "nuc", 1, 2, -1, -2, math.inf],
    "axis": [None, 0, 1, -1, (0, 1), (-2, -1)],
    "axes": [None, 0, 1, 2, (0, 1), ((0,), (1,)), (1, 0), ([1, 2], [1, 0])],
    "n": [0, 1, 3, -1, -2],
    "N": [None, 0, 3],
    "offset": [0, 1, -1, 5, -7],
    "ind": [1, 2, 3],
    "method": [None, "lu", "qr"],
    "dtype": [None, "float32", "int32"],
    "precision": [None, "highest"],
    "preferred_element_type": [None, jnp.float32, jnp.float64],
}
TOLERANCES = {"rtol", "atol", "tol", "rcond"}


def _values(parameter: inspect.Parameter) -> st.SearchStrategy:
    """Mostly what the parameter is for, and sometimes anything."""
    name = parameter.name
    if name == "arrays":
        likely = st.lists(ARRAYS, max_size=4)
    elif name in OPTIONS:
        likely = st.sampled_from(OPTIONS[name])
    elif name in TOLERANCES:
        likely = st.sampled_from([None, 0.1, -1, 0, jax.ShapeDtypeStruct((3,), jnp.dtype("float64"))])
    elif isinstance(parameter.default, bool) or name == "upper":
        likely = st.booleans()
    else:
        likely = ARRAYS
    return st.one_of(likely, likely, likely, ARRAYS, STRANGE)


@st.composite
def calls(draw, name: str) -> tuple[list, dict]:
    """Arguments of the function: positions and keywords."""
    args, kwargs = [], {}
    for parameter in inspect.signature(getattr(linalgx, name)).parameters.values():
        optional = parameter.default is not parameter.empty
        if optional and draw(st.booleans()):
            continue
        value = draw(_values(parameter))
        if optional or parameter.kind is parameter.KEYWORD_ONLY:
            kwargs[parameter.name] = value
        else:
            args.append(value)
    # shapes that fit are rare by chance
    if args and isinstance(args[0], jax.ShapeDtypeStruct) and draw(st.booleans()):
        shape = args[0].shape
        fitting = st.sampled_from([shape, shape[:-1], shape[-1:]])
        for i, x in enumerate(args[1:], 1):
            if isinstance(x, jax.ShapeDtypeStruct):
                dtype = draw(st.sampled_from([x.dtype, jnp.dtype("int32"), args[0].dtype]))
                args[i] = jax.ShapeDtypeStruct(draw(fitting), dtype)
    change = draw(st.integers(0, 30))
    if change == 1:
        args.append(1)
    elif change == 2:
        kwargs["nonsense"] = 1
    elif change == 3 and args:
        args.pop()
    return args, kwargs


def _is_abstract(x) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


def trace(name: str, args, kwargs):
    """The function of traced arrays, all other arguments as they are."""
    leaves, structure = jax.tree.flatten((args, kwargs), is_leaf=lambda x: x is None or _is_abstract(x))

    def function(arrays):
        given = iter(arrays)
        filled = [next(given) if _is_abstract(x) else x for x in leaves]
        args, kwargs = jax.tree.unflatten(structure, filled)
        return getattr(linalgx, name)(*args, **kwargs)

    return jax.eval_shape(function, [x for x in leaves if _is_abstract(x)])


def evaluate(name: str, args, kwargs):
    """The function of arrays of small numbers."""
    fill = lambda x: jnp.ones(x.shape, x.dtype) if _is_abstract(x) else x
    args, kwargs = jax.tree.map(fill, (args, kwargs), is_leaf=lambda x: x is None or _is_abstract(x))
    return jax.block_until_ready(getattr(linalgx, name)(*args, **kwargs))


def _works_or_says_why(attempt, name: str, call) -> None:
    args, kwargs = call
    try:
        attempt(name, args, kwargs)
    except (ValueError, TypeError) as error:
        if not str(error).startswith(f"linalgx.{name}: "):
            raise


def _fuzz(attempt, name: str, examples: int) -> None:
    settings = hypothesis.settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
    )
    given = hypothesis.given(call=calls(name))
    settings(given(lambda call: _works_or_says_why(attempt, name, call)))()


promotion = pytest.mark.parametrize("promotion", ["standard", "strict"])
quiet = pytest.mark.filterwarnings("ignore")


@quiet
@pytest.mark.parametrize("name", FUNCTIONS)
def test_traced_arguments(name: str) -> None:
    with jax.numpy_dtype_promotion("standard"):
        _fuzz(trace, name, 10)


@quiet
@pytest.mark.slow
@promotion
@pytest.mark.parametrize("name", FUNCTIONS)
def test_many_traced_arguments(name: str, promotion: str) -> None:
    with jax.numpy_dtype_promotion(promotion):
        _fuzz(trace, name, 1000)


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments(name: str) -> None:
    with jax.numpy_dtype_promotion("standard"):
        _fuzz(evaluate, name, 60)
