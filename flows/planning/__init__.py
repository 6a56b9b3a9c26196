"""What a run will do and what it takes, before it does anything.

`plan` foretells a run's stages and refuses what they would be refused for; `costs` counts their
work and `rates` makes seconds of it; `memory` says what the networks hold; `checks` refuses what
parameters alone show cannot succeed here.
"""
