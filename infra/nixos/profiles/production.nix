# Everything.
{ lib, ... }:
{
  imports = [ ./foundation.nix ];
  rave.profile = "production";

  # By name, so that no third one slips in; why these two, is in docs/adr/0014-unfree-packages.md.
  nixpkgs.config.allowUnfreePredicate = package: lib.elem (lib.getName package) [ "n8n" "outline" ];
}
