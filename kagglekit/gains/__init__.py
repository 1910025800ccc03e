"""What helps on your data: gains of runs over a base in a ledger that can say "cannot tell", and a race of recipes."""
