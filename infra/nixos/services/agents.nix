# Agents: one instance of a template unit per agent, each in a directory of its own. Off until an
# operator names the program that does the work.
{ config, lib, ... }:
let
  cfg = config.services.rave.agents;
in
{
  options.services.rave.agents = {
    runner = lib.mkOption {
      type = lib.types.nullOr lib.types.package;
      default = null;
      description = "Program that runs one agent. It gets the agent's name as its only argument.";
    };
    instances = lib.mkOption {
      type = lib.types.listOf (lib.types.strMatching "[a-z0-9][a-z0-9-]*");
      default = [ ];
      example = [ "reviewer" ];
      description = "Agents that run from boot; others are started as `rave-agent@<name>`.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.runner != null;
        message = "services.rave.agents.runner: must be set when agents are enabled.";
      }
    ];

    systemd.targets.rave-agents = {
      description = "Agents";
      wantedBy = [ "multi-user.target" ];
      wants = map (name: "rave-agent@${name}.service") cfg.instances;
    };

    systemd.slices.rave-agents.sliceConfig = {
      MemoryMax = "${toString cfg.memoryMiB}M";
      MemoryHigh = "${toString (cfg.memoryMiB * 9 / 10)}M";
    };

    systemd.services."rave-agent@" = {
      description = "Agent %i";
      partOf = [ "rave-agents.target" ];
      after = [ "network.target" ];
      serviceConfig = {
        ExecStart = "${lib.optionalString (cfg.runner != null) (lib.getExe cfg.runner)} %i";
        Slice = "rave-agents.slice";
        DynamicUser = true;
        StateDirectory = "rave-agents/%i";
        WorkingDirectory = "/var/lib/rave-agents/%i";
        Restart = "on-failure";
        RestartSec = 10;
        OOMScoreAdjust = 500;
        NoNewPrivileges = true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        RestrictNamespaces = true;
      };
    };
  };
}
