"""What a run will do and what it takes, before it does anything.

`plan` foretells a run's stages and refuses what they would be refused for; `costs` counts their
work and `rates` makes seconds of it; `families` does both for `foundations`. `sizes` reads a
network's sizes; `memory` holds the formulas of what networks take and `needs` fills them in for
each stage, shown by `tables`; `remedies` says what to change where that is too much. `limits`
refuses what the memory cannot hold, and `checks` whatever parameters alone show cannot succeed
here.
"""
