"""One tracked step a module: fetch inputs, call models/, log, publish."""
