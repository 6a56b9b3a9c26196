"""What stages publish.

`store`: whole or absent. `digests`: the identity of a result; of its code in `code`, by `syntax`
without `texts`. `manifests`: walks over what is published. `curves`: step metrics of a stage.
`cache`: what can be made again.
"""
