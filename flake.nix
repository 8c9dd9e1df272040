{
  description = "RAVE: a reproducible, secured developer platform in one virtual machine";

  outputs = { self, ... }:
    let
      catalog = import ./infra/nixos/catalog;
    in
    {
      # Needs no input: evaluates offline, on any Nix.
      profileMetadata = catalog.metadata;
    };
}
