"""From features to scores: arithmetic alone, one metric to a module, float64 wherever digits could be lost."""
