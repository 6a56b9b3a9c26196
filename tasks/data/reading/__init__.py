"""From bytes to raw rows, one after the other; what the columns mean is not decided here.

`paths` finds files and knows their endings; `packing` unpacks them, and takes archives apart;
`recognition` tells by a file's first bytes what it is. `encodings` decides on the encoding of a
text, with the help of `legacy` where it is not Unicode, `plausibility` of what that would make and
`scripts` of its words; `lines` decodes; `mojibake` finds what was decoded wrongly before.
`contents` knows all kinds; `json_rows` (and `orientations` of a table in one object), `tables`,
`columnar` and `texts` make rows of each.
"""
