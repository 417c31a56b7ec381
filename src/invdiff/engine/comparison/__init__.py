"""Measuring two folders or two models that no run made."""
