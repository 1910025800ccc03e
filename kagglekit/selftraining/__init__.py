"""Predictions that become labels: pseudo labels, uncertainty-aware self-training, distillation; fold by fold."""
