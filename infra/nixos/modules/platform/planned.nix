# Services of the catalog that this base does not carry yet: their place is kept, and enabling one is
# refused by name instead of building a machine without it.
{ config, lib, ... }:
let
  catalog = import ../../../catalog;
  planned = lib.filterAttrs (_: service: !(service.bases ? nixos)) catalog.services;
in
{
  options.services.rave = lib.mapAttrs
    (_: service: {
      enable = lib.mkEnableOption "${service.title}: ${service.description}. This base does not carry it yet";
    })
    planned;

  config.assertions = lib.mapAttrsToList
    (id: _: {
      assertion = !config.services.rave.${id}.enable;
      message = "services.rave.${id}.enable: the nixos base does not carry this service; its record in the catalog has no `bases.nixos`.";
    })
    planned;
}
