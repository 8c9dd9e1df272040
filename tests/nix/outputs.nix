# The flake's outputs of the NixOS base with a given nixpkgs in place of the locked one, as derivation
# paths: everything that `nix flake check --no-build` would look at.
{ nixpkgs, sopsNix, root }:
let
  lib = import (nixpkgs + "/lib");
  pkgs = import nixpkgs { system = "x86_64-linux"; };
  self = outputs // { outPath = root; };
  outputs = import (root + "/infra/nixos/outputs.nix") {
    inherit self;
    nixpkgs = {
      lib = lib // { nixosSystem = arguments: import (nixpkgs + "/nixos/lib/eval-config.nix") (arguments // { inherit lib; }); };
      legacyPackages.x86_64-linux = pkgs;
    };
    sops-nix.nixosModules.sops = sopsNix + "/modules/sops";
    catalog = import (root + "/infra/catalog");
  };
  paths = lib.mapAttrs (_: package: package.drvPath);
in
{
  packages = paths outputs.packages.x86_64-linux;
  checks = paths outputs.checks.x86_64-linux;
  devShells = paths outputs.devShells.x86_64-linux;
  app = outputs.apps.x86_64-linux.default.program;
  withPort = let image = outputs.lib.productionWithPort 8443; in {
    inherit (image) drvPath postVM;
    inherit (image.passthru.config.rave) carried guestPlan;
  };
}
