# Prometheus exporter: nginx.
{ config, lib, ... }:
let
  cfg = config.services.rave.nginx-exporter;
  inherit (config.services.rave) nginx;
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = nginx.enable;
        message = "services.rave.nginx-exporter.enable: it counts nginx' requests, and services.rave.nginx is not enabled.";
      }
    ];

    services.prometheus.exporters.nginx = {
      enable = true;
      listenAddress = "127.0.0.1";
      port = cfg.ports.metrics;
      scrapeUri = "http://127.0.0.1:${toString nginx.ports.stub-status}/nginx_status";
    };
  };
}
