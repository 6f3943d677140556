"""Models: where they come from, how they are loaded, and which of their weights can be quantized."""
