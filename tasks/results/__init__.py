"""What stages publish: the store, the identity of a result, manifests and curves."""
