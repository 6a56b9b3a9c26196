"""Champion and challenger.

`challenger`: which version a name means, and whether it can pass at all. `contest`: who is compared
with whom and judged by whom, and who approved it. `promotion`: the alias. `rollback`: back to the
champion before. `rounds`: promotion in a loop, once a policy.
"""
