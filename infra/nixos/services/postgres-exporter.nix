# Prometheus exporter: PostgreSQL.
{ config, lib, ... }:
let
  cfg = config.services.rave.postgres-exporter;
  host = "127.0.0.1:${toString config.services.rave.postgresql.ports.postgresql}";
in
{
  config = lib.mkIf cfg.enable {
    rave.databases.prometheus = {
      memberOf = [ "pg_monitor" ];
      units = [ "prometheus-postgres-exporter.service" ];
    };
    security.rave.needs.prometheus-postgres-exporter.secrets = [ "database/prometheus-password" ];
    services.prometheus.exporters.postgres = {
      enable = true;
      listenAddress = "127.0.0.1";
      port = cfg.ports.metrics;
      dataSourceName = "";
    };
    systemd.services.prometheus-postgres-exporter = {
      environment = {
        # An empty name, so that host, user and the password's file count.
        DATA_SOURCE_NAME = lib.mkForce null;
        DATA_SOURCE_URI = "${host}/postgres?sslmode=disable";
        DATA_SOURCE_USER = "prometheus";
        DATA_SOURCE_PASS_FILE = "%d/password";
      };
      serviceConfig = {
        LoadCredential = "password:${config.security.rave.path "database/prometheus-password"}";
        RestrictAddressFamilies = [ "AF_INET" ];
      };
    };
  };
}
