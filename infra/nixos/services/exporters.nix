# Prometheus exporters: the machine, PostgreSQL, nginx, Redis and NATS. On loopback, without a firewall
# port, each with the least it needs to see its target.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave;
  on = id: lib.mkIf cfg.${id}.enable;
  options = id: import ../modules/service.nix { inherit config lib id; };
  listen = id: {
    enable = true;
    listenAddress = "127.0.0.1";
    port = cfg.${id}.ports.metrics;
  };
in
{
  options.services.rave = lib.genAttrs
    [ "node-exporter" "postgres-exporter" "nginx-exporter" "redis-exporter" "nats-exporter" ]
    options;

  config = lib.mkMerge [
    (on "node-exporter" {
      services.prometheus.exporters.node = listen "node-exporter" // {
        enabledCollectors = [ "systemd" "pressure" ];
        extraFlags = [ "--collector.textfile.directory=/run/rave/metrics" ];
      };
    })

    (on "postgres-exporter" {
      rave.databases.prometheus = {
        memberOf = [ "pg_monitor" ];
        units = [ "prometheus-postgres-exporter.service" ];
      };
      security.rave.needs.prometheus-postgres-exporter.secrets = [ "database/prometheus-password" ];
      services.prometheus.exporters.postgres = listen "postgres-exporter" // { dataSourceName = ""; };
      systemd.services.prometheus-postgres-exporter = {
        environment = {
          # An empty name, so that host, user and the password's file count.
          DATA_SOURCE_NAME = lib.mkForce null;
          DATA_SOURCE_URI = "127.0.0.1:${toString cfg.postgresql.ports.postgresql}/postgres?sslmode=disable";
          DATA_SOURCE_USER = "prometheus";
          DATA_SOURCE_PASS_FILE = "%d/password";
        };
        serviceConfig = {
          LoadCredential = "password:${config.security.rave.path "database/prometheus-password"}";
          RestrictAddressFamilies = [ "AF_INET" ];
        };
      };
    })

    (on "nginx-exporter" {
      services.prometheus.exporters.nginx = listen "nginx-exporter" // {
        scrapeUri = "http://127.0.0.1:${toString cfg.nginx.ports.stub-status}/nginx_status";
      };
    })

    (on "redis-exporter" {
      sops.templates."redis-exporter.env" = {
        content = "REDIS_PASSWORD=${config.sops.placeholder."redis/password"}";
        restartUnits = [ "prometheus-redis-exporter.service" ];
      };
      security.rave.needs.prometheus-redis-exporter = {
        secrets = [ "redis/password" ];
        templates = [ "redis-exporter.env" ];
      };
      services.prometheus.exporters.redis = listen "redis-exporter" // {
        extraFlags = [ "-redis.addr=redis://127.0.0.1:${toString cfg.redis.ports.redis}" ];
      };
      systemd.services.prometheus-redis-exporter.serviceConfig = {
        EnvironmentFile = config.sops.templates."redis-exporter.env".path;
        RestrictAddressFamilies = [ "AF_INET" ];
      };
    })

    (on "nats-exporter" {
      # Without NATS it has nothing to say, and NATS waits for its password.
      security.rave.needs.prometheus-nats-exporter.secrets = [ "nats/password" ];
      services.prometheus.exporters.nats = listen "nats-exporter" // {
        url = "http://127.0.0.1:${toString cfg.nats.ports.monitor}";
        extraFlags = [ "-varz" "-connz" "-jsz=all" ];
      };
    })
  ];
}
