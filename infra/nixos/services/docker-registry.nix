# A registry of images, for robots. Off by default: GitLab, this base's forge, has one of its own.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.docker-registry;
  password = "docker-registry/password";
  accounts = "/run/docker-registry/accounts";
in
{
  config = lib.mkIf cfg.enable {
    rave.ingress.registry = {
      title = "Registry";
      upstream = "http://127.0.0.1:${toString cfg.ports.web}";
      maxBodySize = "8g";
    };
    security.rave.needs.docker-registry.secrets = [ password ];

    services.dockerRegistry = {
      enable = true;
      listenAddress = "127.0.0.1";
      port = cfg.ports.web;
      enableDelete = true;
      enableGarbageCollect = true;
      garbageCollectDates = "Sun *-*-* 03:00:00";
      extraConfig = {
        # Not that somebody is asked who they are. nginx logs requests.
        log = { level = "error"; accesslog.disabled = true; };
        storage.maintenance.uploadpurging = { enabled = true; age = "48h"; interval = "24h"; dryrun = false; };
        http = {
          draintimeout = "20s";
          debug = {
            addr = "127.0.0.1:${toString cfg.ports.metrics}";
            prometheus = { enabled = true; path = "/metrics"; };
          };
        };
        auth.htpasswd = { realm = "RAVE"; path = accounts; };
      };
    };

    systemd.services.docker-registry = {
      # It reads no password, only a hash of it. The lowest cost: the password is random, and each request pays.
      preStart = ''
        umask 077
        ${lib.getExe' pkgs.apacheHttpd "htpasswd"} -niBC 4 rave <"$CREDENTIALS_DIRECTORY/password" >${accounts}
      '';
      serviceConfig = {
        LoadCredential = "password:${config.security.rave.path password}";
        RuntimeDirectory = "docker-registry";
        RuntimeDirectoryMode = "0700";
        ReadWritePaths = [ "/var/lib/docker-registry" ];
        Restart = "on-failure";
        RestartSec = 1;
        UMask = "0077";
        CapabilityBoundingSet = "";
        NoNewPrivileges = true;
        PrivateTmp = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        RestrictAddressFamilies = [ "AF_INET" "AF_UNIX" ];
      };
    };
    # A layer that came meanwhile would be removed before its image names it: the registry is away for as long.
    systemd.services.docker-registry-garbage-collect = {
      conflicts = [ "docker-registry.service" ];
      after = [ "docker-registry.service" ];
      postStop = "/run/current-system/systemd/bin/systemctl --no-block start docker-registry.service";
      # Before the first image there is nothing to look through, which it takes for a fault.
      unitConfig.ConditionDirectoryNotEmpty = "/var/lib/docker-registry/docker/registry/v2/repositories";
    };
  };
}
