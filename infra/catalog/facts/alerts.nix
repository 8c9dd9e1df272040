# The alert rules. `needs`: the service that gives the metric; without it a base has no such rule. `hold`: how
# long it must hold, if not as long as what goes by the node exporter.
let
  alert = needs: name: severity: expr: summary: { inherit needs name severity expr summary; };
  machine = alert "node-exporter";
in
[
  # That a service is down is known sooner, from what the guest says of it (ServiceUnhealthy).
  (alert "prometheus" "InstanceDown" "critical" "up == 0" "{{ $labels.service }} gives no metrics" // { hold = "70s"; })
  (machine "MemoryLow" "warning" "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes > 0.85" "more than 85 % of memory in use")
  (machine "DiskFull" "warning" ''1 - node_filesystem_avail_bytes{mountpoint="/"} / node_filesystem_size_bytes > 0.80'' "more than 80 % of the disk in use")
  (machine "UnitFailed" "critical" "rave_failed_units > 0" "a systemd unit has failed")
  # Without secrets some services wait; that is no fault, and gives no such metric.
  (machine "ServiceUnhealthy" "critical" "rave_service_healthy == 0" "{{ $labels.service }} does not answer its health questions")
  (machine "CertificateExpires" "warning" "rave_certificate_not_after_seconds - time() < 14 * 86400" "nginx's certificate expires within 14 days")
  # The guest follows the host's clock by itself (rave_guest/clock.py), so this says that it cannot.
  (machine "ClockWrong" "warning" "abs(rave_clock_offset_seconds) > 5" "the clock is more than 5 s off the host's")
  (machine "DiskReadOnly" "critical" ''node_filesystem_readonly{mountpoint="/"} == 1'' "the disk takes no more writes")
  (machine "DiskErrors" "critical" "rave_filesystem_errors > 0" "the file system has met errors")
  (machine "OutOfMemory" "warning" "increase(node_vmstat_oom_kill[10m]) > 0" "the kernel killed a process for want of memory")
  # NATS is away or full. It is scraped each minute.
  (alert "webhook-dispatcher" "WebhooksWait" "warning" "rave_dispatcher_oldest_waiting_seconds > 120" "webhooks have waited for more than 2 minutes to be handed over" // { hold = "70s"; })
  (machine "TasksHung" "warning" "increase(rave_hung_tasks[10m]) > 0" "a task was stuck for two minutes")
]
