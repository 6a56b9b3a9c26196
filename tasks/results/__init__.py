"""What stages publish, and how it is named."""
