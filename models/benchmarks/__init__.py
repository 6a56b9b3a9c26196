"""Multiple choice, cloze and continuations."""
