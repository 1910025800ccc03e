"""Whatever can learn the folds of a run: fine-tuning, TF-IDF, frozen vectors, SetFit, soups."""
