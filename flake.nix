{
  description = "RAVE: a reproducible, secured developer platform in one virtual machine";

  outputs = inputs:
    let
      catalog = import ./infra/nixos/catalog;
      debian = import ./infra/debian/outputs.nix { inherit catalog; };

      # What needs nixpkgs. A function of the inputs, whose attribute names force none of them, so that
      # everything else here evaluates offline.
      nixos = if builtins.pathExists ./infra/nixos/outputs.nix then import ./infra/nixos/outputs.nix inputs else { };
      nixosPackages = nixos.packages.x86_64-linux or { };
    in
    nixos // {
      # Needs no input: evaluates offline, on any Nix.
      profileMetadata = catalog.metadata;

      packages.x86_64-linux = debian.packages // nixosPackages;
    };
}
