"""Runs on a Ray cluster: its nodes train what this machine would."""
