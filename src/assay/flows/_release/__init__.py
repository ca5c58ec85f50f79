"""What the flow of a release is made of."""
