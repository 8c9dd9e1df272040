# What every profile stands on: the machine, and the services that the catalog lists for `rave.profile`.
# Which services those are is layered in ../../catalog/profiles.nix.
{ config, lib, ... }:
let
  catalog = import ../../catalog;
  wanted = catalog.profiles.${config.rave.profile}.services;
  carried = lib.filter (id: catalog.services.${id}.bases ? nixos) (lib.attrNames catalog.services);
  starts = id: lib.elem id wanted && !catalog.offByDefault "nixos" id;
in
{
  imports = [
    ../modules
    ../modules/foundation/boot.nix
    ../modules/foundation/guest.nix
    ../modules/foundation/journal.nix
    ../modules/foundation/memory.nix
    ../modules/foundation/network.nix
    ../modules/foundation/users.nix
  ];

  services.rave = lib.genAttrs carried (id: { enable = lib.mkDefault (starts id); });

  system.stateVersion = "26.05";
}
