"""Checkpoints: finding them, reading PyTorch's layout straight into our parameters, and our own format on disk."""
