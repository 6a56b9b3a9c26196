"""The boxes of the pipeline, one a file: what a stage is and what it trains."""
