"""Scoring images: features, metrics and the card that belongs to every figure."""
