# The options that every service of the platform has, read from its record in the catalog:
#
#   services.rave.<id>.enable
#   services.rave.<id>.ports.<name>   the catalog's port, or another
#   services.rave.<id>.memoryMiB      its cap, by mode
#
# A service module adds its own options to them and sets `config` under `lib.mkIf cfg.enable`.
{ config, lib, id }:
let
  record = (import ../../catalog).services.${id};
in
{
  enable = lib.mkEnableOption "${record.title}: ${record.description}";

  memoryMiB = lib.mkOption {
    type = lib.types.ints.positive;
    default = record.memory.${config.rave.mode};
    defaultText = lib.literalMD "the catalog's cap for `rave.mode`";
    description = "Memory cap of ${record.title} in MiB.";
  };
}
// lib.optionalAttrs (record.ports != [ ]) {
  ports = lib.listToAttrs (map
    (port: lib.nameValuePair port.name (lib.mkOption {
      type = lib.types.port;
      default = port.port;
      description = "Port ${port.name} of ${record.title}${lib.optionalString port.exposed "; the firewall admits it"}.";
    }))
    record.ports);
}
