"""A competition: reading its files, inferring and checking the task, and the submission."""
