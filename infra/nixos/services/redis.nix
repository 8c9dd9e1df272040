# Redis: cache and job queues, within a small memory cap.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.redis;
in
{
  options.services.rave.redis = import ../modules/service.nix { inherit config lib; id = "redis"; };

  config = lib.mkIf cfg.enable {
    services.redis.servers.rave = {
      enable = true;
      port = cfg.ports.redis;
      bind = "127.0.0.1";
      requirePassFile = config.security.rave.path "redis/password";
      appendOnly = true;
      databases = 16;
      settings = {
        maxmemory = "${toString (cfg.memoryMiB * 3 / 4)}mb";
        # Job queues must not lose jobs to eviction: a full store refuses writes.
        maxmemory-policy = "noeviction";
        enable-debug-command = "no";
        enable-module-command = "no";
      };
    };
    security.rave.needs.redis-rave.secrets = [ "redis/password" ];
    environment.systemPackages = [ config.services.redis.package ];
  };
}
