# Memory discipline: every unit of the plan has a cap, a soft limit below it, and its place in the order
# in which the kernel kills. Together the caps leave the system what it needs. And how late its timers may come.
{ config, lib, ... }:
let
  inherit (config.rave) plan mode memory memoryMiB facts;

  # The processes of a socket are those of the service that it starts.
  processes = lib.replaceStrings [ ".socket" ] [ ".service" ];
  unitsOf = service: map (lib.removeSuffix ".service") (lib.filter (lib.hasSuffix ".service") (map processes service.units));
  capOf = service: service.memory.${mode};
  capped = lib.filterAttrs (_: service: service.units != [ ]) plan.services;
  sliced = lib.filterAttrs (id: _: memory.${id}.slice != null) capped;

  limits = mebibytes: {
    MemoryMax = "${toString mebibytes}M";
    MemoryHigh = "${toString (mebibytes * 9 / 10)}M";
  };
  unitLimits = _: service: lib.genAttrs (unitsOf service) (_: {
    serviceConfig = limits (capOf service) // { OOMScoreAdjust = service.oomScore; }
      // lib.optionalAttrs (service.timerSlackMs != 0) { TimerSlackNSec = "${toString service.timerSlackMs}ms"; };
    # Where Go collects harder; others do not look at it.
    environment.GOMEMLIMIT = "${toString (capOf service * 8 / 10)}MiB";
  });

  caps = lib.foldl' (sum: service: sum + capOf service) 0 (lib.attrValues capped);
in
{
  options.rave.memory = lib.mkOption {
    default = { };
    description = "How the cap of a service is applied where its units share one.";
    type = lib.types.attrsOf (lib.types.submodule {
      options.slice = lib.mkOption {
        type = lib.types.nullOr lib.types.str;
        default = null;
        example = "system-gitlab";
        description = "Slice that holds all units of the service, and has the cap as each of them has.";
      };
    });
  };

  config = {
    rave.memory = lib.mapAttrs (_: _: { }) capped;

    systemd.services = lib.mkMerge (lib.mapAttrsToList unitLimits capped);
    systemd.slices = lib.mapAttrs'
      (id: service: lib.nameValuePair memory.${id}.slice { sliceConfig = limits (capOf service); })
      sliced;

    assertions = [
      {
        assertion = caps + facts.systemMiB <= memoryMiB;
        message = "rave.memoryMiB: the services' caps are ${toString caps} MiB and the system needs ${toString facts.systemMiB}; together they exceed ${toString memoryMiB} MiB. Lower a services.rave.<id>.memoryMiB, disable a service, or raise rave.memoryMiB.";
      }
    ];
  };
}
