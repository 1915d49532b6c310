"""Many runs: planned, carried out and followed as a sweep, and what they show together."""
