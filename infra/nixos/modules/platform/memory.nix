# Memory discipline: every unit of the plan has a cap, a soft limit below it, and a place in the order
# in which the kernel kills. What the machine cannot do without goes last.
{ config, lib, ... }:
let
  inherit (config.rave) plan;

  # The way in and the data survive; whatever can be restarted without loss goes first.
  oomScore = id:
    if lib.elem id [ "sshd" "firewall" "nginx" ] then -800
    else if lib.elem id [ "postgresql" "redis" "nats" ] then -500
    else if lib.elem id [ "penpot" "outline" "n8n" "agents" "vibe-kanban" "claude-code-router" ] then 500
    else 0;

  limits = memory: {
    MemoryMax = "${toString memory}M";
    MemoryHigh = "${toString (memory * 9 / 10)}M";
  };

  isService = lib.hasSuffix ".service";
  capped = lib.filter (id: plan.services.${id}.units != [ ]) (lib.attrNames plan.services);
  # A unit that several services name (Element is served by nginx) keeps the cap of its owner.
  ownsUnits = id: config.rave.memory.${id}.slice == null && id != "element";

  unitLimits = id: lib.listToAttrs (map
    (unit: lib.nameValuePair (lib.removeSuffix ".service" unit) {
      serviceConfig = limits config.services.rave.${id}.memoryMiB // { OOMScoreAdjust = oomScore id; };
    })
    (lib.filter isService plan.services.${id}.units));
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
        description = "Slice that holds all units of the service, and takes the cap in their place.";
      };
    });
  };

  config = {
    rave.memory = lib.genAttrs capped (_: { });

    systemd.services = lib.mkMerge (map unitLimits (lib.filter ownsUnits capped));
    systemd.slices = lib.mkMerge (map
      (id: { ${config.rave.memory.${id}.slice}.sliceConfig = limits config.services.rave.${id}.memoryMiB; })
      (lib.filter (id: config.rave.memory.${id}.slice != null) capped));
  };
}
