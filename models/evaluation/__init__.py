"""Models measured, compared and judged: samples, measures, checks."""
