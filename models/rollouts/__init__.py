"""Who samples the rollouts that a policy learns from: this process, or a server.

`engine` is what both can do, and the one in this process; `server` asks a server and believes
nothing unread (`answers`); `weights` sends it the actor; `config`.
"""
