{
  description = "RAVE: a reproducible, secured developer platform in one virtual machine";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    sops-nix = {
      url = "github:Mic92/sops-nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  # SAFE mode's throttles. Nix takes them from a flake only if it is trusted, so the CLI passes the same
  # values itself.
  nixConfig = {
    max-jobs = 1;
    cores = 2;
  };

  outputs = inputs:
    let
      catalog = import ./infra/catalog;
      debian = import ./infra/debian/outputs.nix { inherit catalog; };

      # What needs nixpkgs. Its attribute names force no input, so that everything else here evaluates
      # offline.
      nixos = import ./infra/nixos/outputs.nix {
        inherit (inputs) self nixpkgs sops-nix;
        inherit catalog;
      };
    in
    nixos // {
      # Needs no input: evaluates offline, on any Nix.
      profileMetadata = catalog.metadata;

      debianRequests = debian.requests;
      inherit (debian) acceptedRequests;

      packages.x86_64-linux = debian.packages // nixos.packages.x86_64-linux;
    };
}
