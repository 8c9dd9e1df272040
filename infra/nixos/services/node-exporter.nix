# Prometheus exporter: the machine, and what the guest says of its services.
{ config, lib, ... }:
let
  cfg = config.services.rave.node-exporter;
in
{
  config = lib.mkIf cfg.enable {
    services.prometheus.exporters.node = {
      enable = true;
      listenAddress = "127.0.0.1";
      port = cfg.ports.metrics;
      enabledCollectors = [ "systemd" "pressure" ];
      extraFlags = [ "--collector.textfile.directory=/run/rave/metrics" ];
    };
  };
}
