"""A look at data before anything is run: `rows` as a model sees them."""
