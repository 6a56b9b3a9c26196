"""Language models: tokenizer, folders, packed rows, sampling, scoring, chat."""
