"""The loss around a model's weights: how far it stays flat, and how it is curved."""
