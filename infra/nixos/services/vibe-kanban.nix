# Vibe Kanban: boards for agent work. Off until an operator brings the package.
{ config, lib, ... }:
let
  cfg = config.services.rave.vibe-kanban;
in
{
  options.services.rave.vibe-kanban = {
    package = lib.mkOption {
      type = lib.types.nullOr lib.types.package;
      default = null;
      description = ''
        The program. nixpkgs 26.05 does not package it: build the npm package `vibe-kanban` (its
        published archive carries a compiled server) with `buildNpmPackage`, or take it from a newer
        nixpkgs, and give the result here. It must have `bin/vibe-kanban`.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.package != null;
        message = "services.rave.vibe-kanban.package: must be set; nixpkgs 26.05 does not package Vibe Kanban.";
      }
    ];

    rave.ingress.vibe-kanban = {
      title = "Vibe Kanban";
      upstream = "http://127.0.0.1:${toString cfg.ports.web}";
      websockets = true;
    };

    systemd.services.vibe-kanban = {
      description = "Boards for agent work";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      environment = {
        HOST = "127.0.0.1";
        PORT = toString cfg.ports.web;
        HOME = "/var/lib/vibe-kanban";
      };
      serviceConfig = {
        ExecStart = "${toString cfg.package}/bin/vibe-kanban";
        DynamicUser = true;
        StateDirectory = "vibe-kanban";
        WorkingDirectory = "/var/lib/vibe-kanban";
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
