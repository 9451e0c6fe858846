"""What every family stands on: operations and their rules, arguments, errors, results, letters."""
