"""From features to scores: pure arithmetic, a module for each kind of metric, float64 where digits could be lost."""
