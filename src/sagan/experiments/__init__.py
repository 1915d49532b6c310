"""Many runs: planned, executed and followed as a sweep, and their comparison."""
