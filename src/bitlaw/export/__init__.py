"""Checkpoints for other programs: a quantized model as a Hugging Face folder that transformers and vLLM read."""
