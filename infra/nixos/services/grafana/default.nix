# Grafana, with Prometheus as its data source and the platform's dashboards provisioned.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.grafana;
  inherit (config.rave) plan url;
  file = name: "$__file{${config.security.rave.path name}}";
  host = "127.0.0.1:${toString config.services.rave.postgresql.ports.postgresql}";
in
{
  options.services.rave.grafana = {
    dashboards = lib.mkOption {
      type = lib.types.path;
      default = ./dashboards;
      defaultText = lib.literalExpression "./dashboards";
      description = "Directory of dashboards to provision.";
    };
  };

  config = lib.mkIf cfg.enable {
    rave.ingress.grafana = {
      title = "Grafana";
      upstream = "http://127.0.0.1:${toString cfg.ports.web}";
      websockets = true;
    };
    rave.databases.grafana.units = [ "grafana.service" ];
    security.rave.needs.grafana.secrets = [ "grafana/admin-password" "grafana/secret-key" "grafana/db-password" ];

    services.grafana = {
      enable = true;
      settings = {
        server = {
          http_addr = "127.0.0.1";
          http_port = cfg.ports.web;
          domain = "grafana.${config.rave.domain}";
          root_url = "${url "grafana"}/";
          enforce_domain = false;
        };
        database = {
          type = "postgres";
          inherit host;
          name = "grafana";
          user = "grafana";
          password = file "grafana/db-password";
          ssl_mode = "disable";
        };
        security = {
          admin_user = "admin";
          admin_password = file "grafana/admin-password";
          secret_key = file "grafana/secret-key";
          cookie_secure = true;
          disable_gravatar = true;
        };
        users.allow_sign_up = false;
        # Nothing on the machine asks the outside world by itself.
        analytics = { reporting_enabled = false; check_for_updates = false; check_for_plugin_updates = false; };
        metrics.enabled = true;
      };
      provision = {
        enable = true;
        datasources.settings = {
          apiVersion = 1;
          datasources = lib.optional (plan.services ? prometheus) {
            name = "Prometheus";
            type = "prometheus";
            uid = "prometheus";
            access = "proxy";
            url = "http://127.0.0.1:${toString config.services.rave.prometheus.ports.web}";
            isDefault = true;
            editable = false;
          };
        };
        dashboards.settings = {
          apiVersion = 1;
          providers = [ { name = "rave"; options.path = cfg.dashboards; disableDeletion = true; } ];
        };
      };
    };
  };
}
