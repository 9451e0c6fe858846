"""What every family stands on: operations and their rules, arguments, errors, results, and the letters of the derivations."""
