"""Champion and challenger.

`contest`: who is compared with whom and judged by whom, and who approved it. `promotion`: the
alias. `rollback`: back to the champion before.
"""
