"""What a model is worth: its loss on held-out text, its answers to questions, and what quantization changes in them."""
