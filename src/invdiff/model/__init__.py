"""The denoiser behind one protocol, the adapter, and the networks that look at pictures."""
