"""Diffusion in latent space: processes, samplers and guidance, as pure functions."""
