"""From features to scores: pure arithmetic, one metric a module, float64 where digits could be lost."""
