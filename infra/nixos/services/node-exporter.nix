# Prometheus exporter: the machine. What alerts go by is the reporter's (rave_guest/exposition.py).
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
    };
  };
}
