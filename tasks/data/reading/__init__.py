"""From bytes to raw rows; `paths` finds files and knows their endings."""
