# The alert rules. `needs`: the service that gives the metric; without it a base has no such rule.
let
  alert = needs: name: severity: expr: summary: { inherit needs name severity expr summary; };
  machine = alert "node-exporter";
in
[
  (alert "prometheus" "InstanceDown" "critical" "up == 0" "{{ $labels.service }} gives no metrics")
  (machine "MemoryLow" "warning" "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes > 0.85" "more than 85 % of memory in use")
  (machine "DiskFull" "warning" ''1 - node_filesystem_avail_bytes{mountpoint="/"} / node_filesystem_size_bytes > 0.80'' "more than 80 % of the disk in use")
  (machine "UnitFailed" "critical" "rave_failed_units > 0" "a systemd unit has failed")
  # Without secrets some services wait; that is no fault.
  (machine "ServiceUnhealthy" "critical" "rave_service_healthy == 0 and on() rave_secrets_installed == 1" "{{ $labels.service }} does not answer its health questions")
  (machine "CertificateExpires" "warning" "rave_certificate_not_after_seconds - time() < 14 * 86400" "nginx's certificate expires within 14 days")
]
