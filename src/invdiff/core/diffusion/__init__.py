"""Noise schedules, denoising losses, and base + strength * (adapted - base)."""
