# Redis: cache and job queues, within a small memory cap.
{ config, lib, ... }:
let
  cfg = config.services.rave.redis;
  inherit (config.rave) mode facts;
  inherit (facts.redis) settings;
  server = config.services.redis.servers.rave;
  accounts = "redis.conf";
in
{
  config = lib.mkIf cfg.enable {
    services.redis.servers.rave = {
      enable = true;
      port = cfg.ports.redis;
      bind = "127.0.0.1";
      # An option of its own, which would write the opposite beside it.
      appendOnly = settings.appendonly == "yes";
      settings = lib.mapAttrs (_: lib.mkForce) (removeAttrs settings [ "appendonly" ]) // {
        maxmemory = "${toString facts.redis.maxMemoryMiB.${mode}}mb";
        include = [ config.sops.templates.${accounts}.path ];
      };
    };

    # The module would copy the password into a file of its own.
    sops.templates.${accounts} = {
      content = "requirepass ${config.sops.placeholder."redis/password"}\n";
      owner = server.user;
      restartUnits = [ "redis-rave.service" ];
    };
    security.rave.needs.redis-rave = {
      secrets = [ "redis/password" ];
      templates = [ accounts ];
    };
    systemd.services.redis-rave.serviceConfig = { Restart = "on-failure"; RestartSec = 1; };
    environment.systemPackages = [ config.services.redis.package ];
  };
}
