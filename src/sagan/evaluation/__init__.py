"""Scoring images: features, metrics and the card of every score."""
