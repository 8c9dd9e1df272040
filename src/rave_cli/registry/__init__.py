"""OCI registries: what is pushed to them and pulled from them (distribution spec 1.1)."""
