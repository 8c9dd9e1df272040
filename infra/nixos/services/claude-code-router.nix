# Claude Code Router: routes agents' requests to model providers. Off until an operator has a provider:
# the key of one is the only thing it is for, and the platform cannot make one up.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.claude-code-router;
  settings = pkgs.writeText "claude-code-router.json" (builtins.toJSON (cfg.settings // {
    HOST = "127.0.0.1";
    PORT = cfg.ports.api;
    NON_INTERACTIVE_MODE = true;
  }));
  keys = map (provider: provider.api_key or "$") (cfg.settings.Providers or [ ]);
in
{
  options.services.rave.claude-code-router = {
    package = lib.mkPackageOption pkgs "claude-code-router" { };
    settings = lib.mkOption {
      type = lib.types.attrsOf lib.types.anything;
      default = { };
      example = {
        Providers = [ { name = "example"; api_base_url = "https://models.example/v1/chat/completions"; api_key = "$EXAMPLE_KEY"; models = [ "m" ]; } ];
        Router.default = "example,m";
      };
      description = "Its config.json. Keys are named (`$NAME`) and come from `environmentFile`.";
    };
    environmentFile = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "/.*");
      default = null;
      description = "Environment file on the machine with the providers' keys, outside the store.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = (cfg.settings.Providers or [ ]) != [ ];
        message = "services.rave.claude-code-router.settings: must name at least one of `Providers`.";
      }
      {
        assertion = lib.all (lib.hasPrefix "$") keys;
        message = "services.rave.claude-code-router.settings: an `api_key` must not be given as a literal; write `$NAME` and put NAME into `environmentFile`.";
      }
      {
        assertion = cfg.environmentFile == null || !lib.hasPrefix builtins.storeDir cfg.environmentFile;
        message = "services.rave.claude-code-router.environmentFile: must not be in the Nix store, which every account can read.";
      }
    ];

    systemd.services.claude-code-router = {
      description = "Routes agents to models";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      environment.HOME = "/var/lib/claude-code-router";
      preStart = ''
        install -D -m 0600 ${settings} "$HOME/.claude-code-router/config.json"
      '';
      serviceConfig = {
        ExecStart = "${lib.getExe' cfg.package "ccr"} start";
        EnvironmentFile = lib.mkIf (cfg.environmentFile != null) cfg.environmentFile;
        DynamicUser = true;
        StateDirectory = "claude-code-router";
        Restart = "on-failure";
        RestartSec = 5;
        NoNewPrivileges = true;
        PrivateTmp = true;
        ProtectSystem = "strict";
        ProtectHome = true;
      };
    };
  };
}
