"""The results with more than one part, as NamedTuples with the field names of NumPy and torch."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from jax import Array
from jax.export import register_namedtuple_serialization

Result = TypeVar("Result", bound=type)


def _result(result: Result) -> Result:
    """Print each field on a line of its own, the rows of its arrays under one another; export under a name of ours."""

    def show(self: Any) -> str:
        fields = zip(self._fields, map(repr, self), strict=True)
        lines = (f"    {name}={value}".replace("\n", "\n" + " " * (len(name) + 5)) for name, value in fields)
        return f"{type(self).__name__}(\n" + ",\n".join(lines) + "\n)"

    result.__repr__ = show  # type: ignore[method-assign,assignment]
    register_namedtuple_serialization(result, serialized_name=f"linalgx.{result.__name__}")
    return result


@_result
class CholeskyExResult(NamedTuple):
    """Result of :func:`linalgx.cholesky_ex`."""

    L: Array
    info: Array


@_result
class QRResult(NamedTuple):
    """Result of :func:`linalgx.qr`."""

    Q: Array
    R: Array


@_result
class GeqrfResult(NamedTuple):
    """Result of :func:`linalgx.geqrf`: Householder vectors below the diagonal of ``a``, R on and above it."""

    a: Array
    tau: Array


@_result
class LUResult(NamedTuple):
    """Result of :func:`linalgx.lu` and :func:`linalgx.lu_unpack`."""

    P: Array
    L: Array
    U: Array


@_result
class LUFactorResult(NamedTuple):
    """Result of :func:`linalgx.lu_factor`."""

    LU: Array
    pivots: Array


@_result
class LUFactorExResult(NamedTuple):
    """Result of :func:`linalgx.lu_factor_ex`."""

    LU: Array
    pivots: Array
    info: Array


@_result
class LDLFactorResult(NamedTuple):
    """Result of :func:`linalgx.ldl_factor`."""

    LD: Array
    pivots: Array


@_result
class LDLFactorExResult(NamedTuple):
    """Result of :func:`linalgx.ldl_factor_ex`."""

    LD: Array
    pivots: Array
    info: Array


@_result
class EigResult(NamedTuple):
    """Result of :func:`linalgx.eig`."""

    eigenvalues: Array
    eigenvectors: Array


@_result
class EighResult(NamedTuple):
    """Result of :func:`linalgx.eigh`."""

    eigenvalues: Array
    eigenvectors: Array


@_result
class SVDResult(NamedTuple):
    """Result of :func:`linalgx.svd`."""

    U: Array
    S: Array
    Vh: Array


@_result
class SlogdetResult(NamedTuple):
    """Result of :func:`linalgx.slogdet`."""

    sign: Array
    logabsdet: Array


@_result
class LstsqResult(NamedTuple):
    """Result of :func:`linalgx.lstsq`."""

    solution: Array
    residuals: Array
    rank: Array
    singular_values: Array


@_result
class SolveExResult(NamedTuple):
    """Result of :func:`linalgx.solve_ex`."""

    result: Array
    info: Array


@_result
class InvExResult(NamedTuple):
    """Result of :func:`linalgx.inv_ex`."""

    inverse: Array
    info: Array
