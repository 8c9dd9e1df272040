# Prometheus: scrapes every service of the plan that has metrics, and judges the alert rules.
# With these intervals an alert reaches Alertmanager within 30 s.
{ config, lib, ... }:
let
  cfg = config.services.rave.prometheus;
  inherit (config.rave) plan mode;

  scraped = lib.filterAttrs (_: service: service.scrape != null) plan.services;
  job = name: service: {
    job_name = name;
    metrics_path = service.scrape.path;
    static_configs = [
      { targets = [ "127.0.0.1:${toString service.scrape.port}" ]; labels.service = name; }
    ];
  };

  alert = name: severity: expr: summary: {
    alert = name;
    inherit expr;
    # One missed scrape is no alarm.
    for = "10s";
    labels.severity = severity;
    annotations.summary = summary;
  };
in
{
  options.services.rave.prometheus = import ../modules/service.nix { inherit config lib; id = "prometheus"; } // {
    retentionDays = lib.mkOption {
      type = lib.types.ints.positive;
      default = { safe = 3; full = 7; }.${mode};
      defaultText = lib.literalMD "by `rave.mode`: 3 or 7";
      description = "Days that metrics are kept.";
    };
    alerts = lib.mkOption {
      type = lib.types.listOf (lib.types.attrsOf lib.types.anything);
      default = [ ];
      description = "Further alert rules, in Prometheus' own form.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.rave.prometheus.alerts = [
      (alert "InstanceDown" "critical" "up == 0" "{{ $labels.service }} gives no metrics")
      (alert "MemoryLow" "warning" "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes > 0.85" "more than 85 % of memory in use")
      (alert "DiskFull" "warning" ''1 - node_filesystem_avail_bytes{mountpoint="/"} / node_filesystem_size_bytes > 0.80'' "more than 80 % of the disk in use")
      (alert "UnitFailed" "critical" "rave_failed_units > 0" "a systemd unit has failed")
      (alert "ServiceUnhealthy" "critical" "rave_service_healthy == 0 and on() rave_secrets_installed == 1" "{{ $labels.service }} does not answer its health questions")
      (alert "CertificateExpires" "warning" "rave_certificate_not_after_seconds - time() < 14 * 86400" "nginx's certificate expires within 14 days")
    ];

    services.prometheus = {
      enable = true;
      listenAddress = "127.0.0.1";
      port = cfg.ports.web;
      retentionTime = "${toString cfg.retentionDays}d";
      extraFlags = [ "--storage.tsdb.retention.size=2GB" "--log.level=warn" ];
      globalConfig = {
        scrape_interval = "10s";
        scrape_timeout = "8s";
        evaluation_interval = "5s";
      };
      scrapeConfigs = lib.mapAttrsToList job scraped;
      rules = [ (builtins.toJSON { groups = [ { name = "rave"; rules = cfg.alerts; } ]; }) ];
      alertmanagers = lib.optional (plan.services ? alertmanager) {
        static_configs = [ { targets = [ "127.0.0.1:${toString config.services.rave.alertmanager.ports.web}" ]; } ];
      };
    };
    systemd.services.prometheus.environment.GOMEMLIMIT = "${toString (cfg.memoryMiB * 8 / 10)}MiB";
  };
}
