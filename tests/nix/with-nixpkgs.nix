# Evaluates a profile of the platform against a complete nixpkgs: every upstream option, type,
# assertion and package name is real.
{ nixpkgs, sopsNix, root, profile, mode ? "safe", modules ? [ ] }:
import (nixpkgs + "/nixos/lib/eval-config.nix") {
  system = "x86_64-linux";
  modules = [
    (sopsNix + "/modules/sops")
    (root + "/infra/nixos/profiles/${profile}.nix")
    { rave.mode = mode; }
  ] ++ modules;
}
