"""The results with more than one part, as NamedTuples with the field names of NumPy and torch."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from jax import Array
from jax.export import register_namedtuple_serialization

Result = TypeVar("Result", bound=type)


def _one_field_a_line(result: Result) -> Result:
    """Print the result with each field on a line of its own, and the rows of its arrays under one another."""

    def show(self: Any) -> str:
        fields = zip(self._fields, map(repr, self), strict=True)
        lines = (f"    {name}={value}".replace("\n", "\n" + " " * (len(name) + 5)) for name, value in fields)
        return f"{type(self).__name__}(\n" + ",\n".join(lines) + "\n)"

    result.__repr__ = show  # type: ignore[method-assign,assignment]
    return result


@_one_field_a_line
class CholeskyExResult(NamedTuple):
    """Result of :func:`linalgx.cholesky_ex`."""

    L: Array
    info: Array


@_one_field_a_line
class QRResult(NamedTuple):
    """Result of :func:`linalgx.qr`."""

    Q: Array
    R: Array


@_one_field_a_line
class GeqrfResult(NamedTuple):
    """Result of :func:`linalgx.geqrf`: Householder vectors below the diagonal of ``a``, R on and above it."""

    a: Array
    tau: Array


@_one_field_a_line
class LUResult(NamedTuple):
    """Result of :func:`linalgx.lu` and :func:`linalgx.lu_unpack`."""

    P: Array
    L: Array
    U: Array


@_one_field_a_line
class LUFactorResult(NamedTuple):
    """Result of :func:`linalgx.lu_factor`."""

    LU: Array
    pivots: Array


@_one_field_a_line
class LUFactorExResult(NamedTuple):
    """Result of :func:`linalgx.lu_factor_ex`."""

    LU: Array
    pivots: Array
    info: Array


@_one_field_a_line
class LDLFactorResult(NamedTuple):
    """Result of :func:`linalgx.ldl_factor`."""

    LD: Array
    pivots: Array


@_one_field_a_line
class LDLFactorExResult(NamedTuple):
    """Result of :func:`linalgx.ldl_factor_ex`."""

    LD: Array
    pivots: Array
    info: Array


@_one_field_a_line
class EigResult(NamedTuple):
    """Result of :func:`linalgx.eig`."""

    eigenvalues: Array
    eigenvectors: Array


@_one_field_a_line
class EighResult(NamedTuple):
    """Result of :func:`linalgx.eigh`."""

    eigenvalues: Array
    eigenvectors: Array


@_one_field_a_line
class SVDResult(NamedTuple):
    """Result of :func:`linalgx.svd`."""

    U: Array
    S: Array
    Vh: Array


@_one_field_a_line
class SlogdetResult(NamedTuple):
    """Result of :func:`linalgx.slogdet`."""

    sign: Array
    logabsdet: Array


@_one_field_a_line
class LstsqResult(NamedTuple):
    """Result of :func:`linalgx.lstsq`."""

    solution: Array
    residuals: Array
    rank: Array
    singular_values: Array


@_one_field_a_line
class SolveExResult(NamedTuple):
    """Result of :func:`linalgx.solve_ex`."""

    result: Array
    info: Array


@_one_field_a_line
class InvExResult(NamedTuple):
    """Result of :func:`linalgx.inv_ex`."""

    inverse: Array
    info: Array


for _result in (
    CholeskyExResult,
    QRResult,
    GeqrfResult,
    LUResult,
    LUFactorResult,
    LUFactorExResult,
    LDLFactorResult,
    LDLFactorExResult,
    EigResult,
    EighResult,
    SVDResult,
    SlogdetResult,
    LstsqResult,
    SolveExResult,
    InvExResult,
):
    # a program that returns one can be exported under this name
    register_namedtuple_serialization(_result, serialized_name=f"linalgx.{_result.__name__}")
