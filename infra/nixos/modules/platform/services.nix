# The options that every service of the platform has, from its record in the catalog:
#
#   services.rave.<id>.enable
#   services.rave.<id>.ports.<name>   the catalog's port, or another
#   services.rave.<id>.memoryMiB      its cap, by mode
#
# A service's own module adds its own to them and sets `config` under `lib.mkIf cfg.enable`. Services that
# this base does not carry keep their place: enabling one is refused by name.
{ config, lib, ... }:
let
  catalog = import ../../../catalog;
  carried = service: service.bases ? nixos;

  ports = service: lib.listToAttrs (map
    (port: lib.nameValuePair port.name (lib.mkOption {
      type = lib.types.port;
      default = port.port;
      description = "Port ${port.name} of ${service.title}${lib.optionalString port.exposed "; the firewall admits it"}.";
    }))
    service.ports);

  optionsOf = service: {
    enable = lib.mkEnableOption "${service.title}: ${service.description}";
    memoryMiB = lib.mkOption {
      type = lib.types.ints.positive;
      default = service.memory.${config.rave.mode};
      defaultText = lib.literalMD "the catalog's cap for `rave.mode`";
      description = "Memory cap of ${service.title} in MiB.";
    };
  } // lib.optionalAttrs (service.ports != [ ]) { ports = ports service; };

  planned = service: {
    enable = lib.mkEnableOption "${service.title}: ${service.description}. This base does not carry it yet";
  };
in
{
  options.services.rave = lib.mapAttrs
    (_: service: if carried service then optionsOf service else planned service)
    catalog.services;

  config.assertions = lib.mapAttrsToList
    (id: _: {
      assertion = !config.services.rave.${id}.enable;
      message = "services.rave.${id}.enable: the nixos base does not carry this service; its record in the catalog has no `bases.nixos`.";
    })
    (lib.filterAttrs (_: service: !carried service) catalog.services);
}
