# Claude Code Router: routes agents' requests to model providers. Behind a socket, so that it runs while somebody asks
# it; providers and their keys are a secret, without which it turns down what comes. Off until somebody wants it.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.claude-code-router;
  account = "claude-code-router";
  credentials = [ "providers" "api-key" ];
  start = ../../guest/claude-code-router.cjs;
in
{
  options.services.rave.claude-code-router = {
    package = lib.mkPackageOption pkgs "claude-code-router" { };
    program = lib.mkOption {
      type = lib.types.str;
      default = "lib/claude-code-router/dist/cli.js";
      description = "Where in the package its program is.";
    };
  };

  config = lib.mkIf cfg.enable {
    # Its own page, and where it is told other settings, are not served.
    rave.ingress.router = {
      title = "Claude Code Router";
      upstream = "http://127.0.0.1:${toString cfg.ports.api}";
      path = "/v1/";
      maxBodySize = "32m";
    };

    services.nginx.virtualHosts."router.${config.rave.domain}".locations."/v1/".extraConfig = ''
      # What a model says comes word by word; before the first it may think for minutes.
      proxy_buffering off;
      proxy_read_timeout 600s;
    '';

    # Where systemd looks for a credential that its unit names without a path: there one may be missing, where a path
    # that leads nowhere would keep the unit from starting (systemd.exec(5)).
    environment.etc = lib.listToAttrs (map
      (name: lib.nameValuePair "credstore/claude-code-router.${name}" {
        source = config.security.rave.path "claude-code-router/${name}";
      })
      credentials);

    users.users.${account} = { isSystemUser = true; group = account; };
    users.groups.${account} = { };

    systemd.sockets.claude-code-router = {
      description = "Claude Code Router";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ "127.0.0.1:${toString cfg.ports.api}" ];
    };
    systemd.services.claude-code-router = {
      description = "Claude Code Router";
      requires = [ "claude-code-router.socket" ];
      # Another key is taken up with the next request.
      partOf = [ "claude-code-router.socket" ];
      after = [ "claude-code-router.socket" "sops-install-secrets.service" ];
      # Before there are secrets it turns down what comes, and says why.
      environment = { HOME = "/run/claude-code-router"; PORT = toString cfg.ports.api; };
      serviceConfig = {
        User = account;
        LoadCredential = map (name: "${name}:claude-code-router.${name}") credentials;
        RuntimeDirectory = "claude-code-router";
        RuntimeDirectoryMode = "0700";
        ExecStart = "${lib.getExe pkgs.nodejs} --max-old-space-size=128 ${start} ${cfg.package}/${cfg.program}";
        Nice = 10;
        UMask = "0077";
        Restart = "on-failure";
        RestartSec = 2;
        CapabilityBoundingSet = "";
        NoNewPrivileges = true;
        PrivateTmp = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        RestrictAddressFamilies = [ "AF_INET" "AF_UNIX" ];
      };
    };
  };
}
