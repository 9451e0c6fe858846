"""The table: every public function with its references, sample inputs, error inputs, and the inputs of its rules.

One module a family; each has CASES, ERRORS and RULE_INPUTS. The generic tests run over all of them.
"""

from tests.operations import (
    cholesky,
    determinants,
    eig,
    eigh,
    ldl,
    least_squares,
    linear_systems,
    lu,
    matrix_functions,
    norms,
    products,
    qr,
    svd,
)

FAMILIES = (
    products,
    cholesky,
    lu,
    ldl,
    qr,
    eigh,
    eig,
    svd,
    linear_systems,
    least_squares,
    determinants,
    norms,
    matrix_functions,
)

CASES = [case for family in FAMILIES for case in family.CASES]
ERRORS = [error for family in FAMILIES for error in family.ERRORS]
RULE_INPUTS = {name: inputs for family in FAMILIES for name, inputs in family.RULE_INPUTS.items()}
FIRST_CASES = list({case.function: case for case in reversed(CASES)}.values())
DIFFERENTIABLE = [case for case in CASES if case.differentiate]
