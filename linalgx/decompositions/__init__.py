"""The matrix decompositions, one file each: functions, operations, derivative rules."""
