"""The models that predict: baselines and candidates. One file, one model."""
