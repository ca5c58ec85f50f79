"""What the flow of tuning is made of."""
