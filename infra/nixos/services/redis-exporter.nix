# Prometheus exporter: Redis. The password reaches it in a file, so no process carries it.
{ config, lib, ... }:
let
  cfg = config.services.rave.redis-exporter;
  address = "redis://127.0.0.1:${toString config.services.rave.redis.ports.redis}";
  passwords = "redis-exporter.json";
in
{
  config = lib.mkIf cfg.enable {
    sops.templates.${passwords} = {
      content = builtins.toJSON { ${address} = config.sops.placeholder."redis/password"; };
      restartUnits = [ "prometheus-redis-exporter.service" ];
    };
    security.rave.needs.prometheus-redis-exporter = {
      secrets = [ "redis/password" ];
      templates = [ passwords ];
    };
    services.prometheus.exporters.redis = {
      enable = true;
      listenAddress = "127.0.0.1";
      port = cfg.ports.metrics;
      extraFlags = [ "-redis.addr=${address}" "-redis.password-file=%d/passwords" ];
    };
    systemd.services.prometheus-redis-exporter.serviceConfig = {
      LoadCredential = "passwords:${config.sops.templates.${passwords}.path}";
      RestrictAddressFamilies = [ "AF_INET" ];
    };
  };
}
