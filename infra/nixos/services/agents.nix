# Agents: one instance of a template unit for each kind. Off until an operator gives them a token of the forge.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.agents;
  inherit (config.rave) facts mode plan;
  path = config.security.rave.path;
  account = "rave-agent";

  kinds = lib.attrNames cfg.ports;
  instances = map (lib.removeSuffix ".service") plan.services.agents.units;

  settings = config.rave.platformSettings account (lib.recursiveUpdate
    {
      state = "/var/lib/${account}";
      inherit mode;
      ports = lib.genAttrs kinds (kind: cfg.ports.${kind});
      limits.memory_mib = 256;
      nats = {
        url = "nats://127.0.0.1:${toString config.services.rave.nats.ports.client}";
        user = facts.nats.user;
        password_file = "nats-password";
      };
      forge.gitlab = {
        url = "http://127.0.0.1:${toString config.services.rave.gitlab.ports.web}";
        namespace = "platform";
        token_file = "forge-token";
      };
    }
    cfg.settings);
in
{
  options.services.rave.agents = {
    forgeTokenFile = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "/[^ ]+");
      default = null;
      description = "File with a token of GitLab's, scope `api`, role Maintainer in the namespace of `settings`.";
    };
    settings = lib.mkOption {
      type = lib.types.attrsOf lib.types.anything;
      default = { };
      example = { forge.gitlab.namespace = "team"; };
      description = "Further settings, as the reference of agents has them; they take precedence.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.forgeTokenFile != null;
        message = "services.rave.agents.forgeTokenFile: must be set when agents are enabled.";
      }
      {
        assertion = cfg.forgeTokenFile == null || !lib.hasPrefix builtins.storeDir cfg.forgeTokenFile;
        message = "services.rave.agents.forgeTokenFile: must not be in the Nix store, which everybody may read.";
      }
    ];

    # All of them together, with what they run.
    rave.memory.agents.slice = "system-agents";
    security.rave.needs = lib.genAttrs instances (_: { secrets = [ "nats/password" ]; });

    users.users.${account} = { isSystemUser = true; group = account; };
    users.groups.${account} = { };

    systemd.services = lib.genAttrs instances
      (_: {
        overrideStrategy = "asDropin";
        wantedBy = [ "multi-user.target" ];
      }) // {
      "rave-agent@" = {
        description = "Agent %i";
        wants = [ "nats.service" ];
        after = [ "nats.service" ];
        path = [ pkgs.git pkgs.util-linux ];
        environment.TMPDIR = "/var/tmp";
        serviceConfig = {
          Type = "notify";
          User = account;
          Slice = "system-agents.slice";
          StateDirectory = account;
          StateDirectoryMode = "0700";
          LoadCredential = [ "nats-password:${path "nats/password"}" "forge-token:${toString cfg.forgeTokenFile}" ];
          ExecStart = "${config.rave.platformProgram "agent"} ${settings} %i";
          # It gives a sign of life each 15 s, however long a step takes.
          WatchdogSec = 90;
          # A task's program that wants too much fails its task, not its agent.
          OOMPolicy = "continue";
          TasksMax = 256;
          UMask = "0077";
          Restart = "on-failure";
          RestartSec = 2;
          CapabilityBoundingSet = "";
          NoNewPrivileges = true;
          ProtectSystem = "strict";
          ProtectHome = true;
          PrivateTmp = true;
          RestrictNamespaces = true;
          RestrictAddressFamilies = [ "AF_INET" "AF_UNIX" ];
        };
      };
    };
  };
}
