# Prometheus exporter: NATS.
{ config, lib, ... }:
let
  cfg = config.services.rave.nats-exporter;
in
{
  config = lib.mkIf cfg.enable {
    # Without NATS it has nothing to say, and NATS waits for its password.
    security.rave.needs.prometheus-nats-exporter.secrets = [ "nats/password" ];
    services.prometheus.exporters.nats = {
      enable = true;
      listenAddress = "127.0.0.1";
      port = cfg.ports.metrics;
      url = "http://127.0.0.1:${toString config.services.rave.nats.ports.monitor}";
      extraFlags = [ "-varz" "-connz" "-jsz=all" ];
    };
  };
}
