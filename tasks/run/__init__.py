"""What every stage does around its training; knows no stage by name."""
