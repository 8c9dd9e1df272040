# What a machine is: its profile, its mode, its names, and the plan that follows from the services
# that are enabled. Everything that must agree with a service (firewall, scrape targets, secrets,
# roles, memory caps, the status page) is derived from `rave.plan`, so a service that is disabled
# leaves no trace.
{ config, lib, ... }:
let
  catalog = import ../../../catalog;
  cfg = config.rave;

  # In the profile's order, so that an unchanged profile is exactly the catalog's plan.
  known = lib.unique (catalog.profiles.${cfg.profile}.services ++ lib.attrNames catalog.services);
  carried = lib.filter (id: catalog.services.${id}.bases ? nixos) known;
  enabled = lib.filter (id: config.services.rave.${id}.enable) carried;

  # The plan speaks of the catalog's ports. Options may move them, and then everything follows.
  moves = lib.concatMap
    (id: map
      (port: { from = port.port; to = config.services.rave.${id}.ports.${port.name}; })
      catalog.services.${id}.ports)
    enabled;
  moved = lib.filter (move: move.from != move.to) moves;
  movePort = port: (lib.findFirst (move: move.from == port) { to = port; } moved).to;
  moveUrl = lib.replaceStrings
    (map (move: ":${toString move.from}/") moved)
    (map (move: ":${toString move.to}/") moved);
  moveEach = map (entry: entry // { port = movePort entry.port; });
  moveCheck = check: check
    // lib.optionalAttrs (check ? port) { port = movePort check.port; }
    // lib.optionalAttrs (check ? url) { url = moveUrl check.url; };
  moveService = id: service: service // {
    memory = service.memory // { ${cfg.mode} = config.services.rave.${id}.memoryMiB; };
    ports = moveEach service.ports;
    checks = map moveCheck service.checks;
    scrape = if service.scrape == null then null else service.scrape // { port = movePort service.scrape.port; }
      // lib.optionalAttrs (service.scrape ? also) { also = map movePort service.scrape.also; }
      // lib.optionalAttrs (service.scrape ? often) {
        often = service.scrape.often // { port = movePort service.scrape.often.port; };
      };
  };

  resources = catalog.profiles.${cfg.profile}.resources.${cfg.mode};
  plan = catalog.planOf "nixos" cfg.profile catalog.profiles.${cfg.profile} enabled;

  listeners = lib.concatMap
    (id: map
      (port: { option = "services.rave.${id}.ports.${port.name}"; port = config.services.rave.${id}.ports.${port.name}; })
      catalog.services.${id}.ports)
    enabled;
  sharing = listener: lib.filter (other: other.port == listener.port) listeners;
  taken = lib.filter (listener: lib.length (sharing listener) > 1) listeners;
in
{
  options.rave = {
    profile = lib.mkOption {
      type = lib.types.enum (lib.attrNames catalog.profiles);
      default = "demo";
      description = "Profile of the catalog that this machine runs: its name, its resources. The profile modules set it.";
    };

    mode = lib.mkOption {
      type = lib.types.enum [ "safe" "full" ];
      default = "safe";
      description = "Which resource caps apply: `safe` is memory-disciplined, `full` (FULL_PIPE) lifts them.";
    };

    domain = lib.mkOption {
      type = lib.types.strMatching "[a-z0-9.-]+";
      default = "rave.localhost";
      description = ''
        Every web application is served as `<name>.<domain>` on the one exposed TLS port. Names below
        `localhost` resolve to the loopback address by themselves, in the guest and on its host.
      '';
    };

    publicPort = lib.mkOption {
      type = lib.types.port;
      default = config.services.rave.nginx.ports.status;
      defaultText = lib.literalExpression "config.services.rave.nginx.ports.status";
      description = "Port under which browsers reach the platform: the forwarded port on the host.";
    };

    memoryMiB = lib.mkOption {
      type = lib.types.ints.positive;
      default = resources.memoryMiB;
      defaultText = lib.literalMD "the profile's memory for `rave.mode`";
      description = "Memory of the machine in MiB. Services that the profile leaves off may need more than it plans.";
    };

    facts = lib.mkOption {
      type = lib.types.attrsOf lib.types.anything;
      internal = true;
      description = "What both bases agree on, from the catalog. A service whose option changes one says so here.";
    };

    plan = lib.mkOption {
      type = lib.types.raw;
      readOnly = true;
      internal = true;
      description = "The catalog's plan for exactly the services that are enabled.";
    };

    carried = lib.mkOption {
      type = lib.types.raw;
      readOnly = true;
      internal = true;
      description = "What an image says of its guest, in plan.json of its output.";
    };
  };

  config = {
    rave.carried = import ../../../catalog/carried.nix cfg.plan;
    rave.facts = lib.mapAttrsRecursive (_: lib.mkDefault) plan.facts;

    rave.plan = plan // {
      services = lib.mapAttrs moveService plan.services;
      exposed = moveEach plan.exposed;
      resources = plan.resources // { ${cfg.mode} = resources // { inherit (cfg) memoryMiB; }; };
      inherit (cfg) facts;
    };

    assertions = map
      (listener: {
        assertion = false;
        message = "${listener.option}: port ${toString listener.port} is taken twice, by ${
          lib.concatMapStringsSep " and " (other: other.option) (sharing listener)
        }.";
      })
      taken;
  };
}
