"""Fitting a lens to a model."""
