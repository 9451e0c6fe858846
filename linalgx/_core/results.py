"""The results with more than one part, as NamedTuples with the field names of NumPy and torch."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array
from jax.export import register_namedtuple_serialization


class CholeskyExResult(NamedTuple):
    """Result of :func:`linalgx.cholesky_ex`."""

    L: Array
    info: Array


class QRResult(NamedTuple):
    """Result of :func:`linalgx.qr`."""

    Q: Array
    R: Array


class GeqrfResult(NamedTuple):
    """Result of :func:`linalgx.geqrf`: Householder vectors below the diagonal of ``a``, R on and above it."""

    a: Array
    tau: Array


class LUResult(NamedTuple):
    """Result of :func:`linalgx.lu` and :func:`linalgx.lu_unpack`."""

    P: Array
    L: Array
    U: Array


class LUFactorResult(NamedTuple):
    """Result of :func:`linalgx.lu_factor`."""

    LU: Array
    pivots: Array


class LUFactorExResult(NamedTuple):
    """Result of :func:`linalgx.lu_factor_ex`."""

    LU: Array
    pivots: Array
    info: Array


class LDLFactorResult(NamedTuple):
    """Result of :func:`linalgx.ldl_factor`."""

    LD: Array
    pivots: Array


class LDLFactorExResult(NamedTuple):
    """Result of :func:`linalgx.ldl_factor_ex`."""

    LD: Array
    pivots: Array
    info: Array


class EigResult(NamedTuple):
    """Result of :func:`linalgx.eig`."""

    eigenvalues: Array
    eigenvectors: Array


class EighResult(NamedTuple):
    """Result of :func:`linalgx.eigh`."""

    eigenvalues: Array
    eigenvectors: Array


class SVDResult(NamedTuple):
    """Result of :func:`linalgx.svd`."""

    U: Array
    S: Array
    Vh: Array


class SlogdetResult(NamedTuple):
    """Result of :func:`linalgx.slogdet`."""

    sign: Array
    logabsdet: Array


class LstsqResult(NamedTuple):
    """Result of :func:`linalgx.lstsq`."""

    solution: Array
    residuals: Array
    rank: Array
    singular_values: Array


class SolveExResult(NamedTuple):
    """Result of :func:`linalgx.solve_ex`."""

    result: Array
    info: Array


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
