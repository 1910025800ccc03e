"""Loss functions: the catalogue and the formula of each."""
