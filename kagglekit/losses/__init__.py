"""What training minimises: the catalogue, and the formula of each loss."""
