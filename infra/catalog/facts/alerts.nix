# The alert rules. `needs`: the service that gives the metric, or in whose record the reporter's port stands; without
# it a base has no such rule. `hold`: how long it must hold, if not as long as what goes by the reporter.
let
  alert = needs: name: severity: expr: summary: { inherit needs name severity expr summary; };
  machine = alert "node-exporter";
in
[
  # That a service is down is known sooner, from what the guest says of it (ServiceUnhealthy), which asks an exporter
  # only each fifth minute whether it reaches its service: here each minute.
  (alert "prometheus" "InstanceDown" "critical" "(up == 0 or pg_up == 0 or redis_up == 0 or nginx_up == 0) unless on (service) rave_service_on_its_way == 1" "{{ $labels.service }} gives no metrics" // { hold = "70s"; })
  # What follows goes by what the reporter tells.
  (machine "ReporterDown" "critical" ''up{job="reporter"} == 0'' "the machine does not tell how it is, so no other alert of it can come")
  (machine "MemoryLow" "warning" "1 - rave_memory_available_bytes / rave_memory_bytes > 0.85" "more than 85 % of memory in use")
  (machine "DiskFull" "warning" "1 - rave_disk_available_bytes / rave_disk_bytes > 0.80" "more than 80 % of the disk in use")
  (machine "UnitFailed" "critical" "rave_failed_units > 0" "a systemd unit has failed")
  # Without secrets some services wait; that is no fault, and gives no such metric.
  (machine "ServiceUnhealthy" "critical" "rave_service_healthy == 0" "{{ $labels.service }} does not answer its health questions")
  (machine "CertificateExpires" "warning" "rave_certificate_not_after_seconds - time() < 14 * 86400" "nginx's certificate expires within 14 days")
  # The host says with each backup when the next one is late; a machine without a schedule has no such metric.
  (machine "BackupLate" "warning" "rave_backup_due_seconds < time()" "the host has no backup of this machine that is young enough: rave backup status")
  (machine "BackupUnproven" "warning" "time() - rave_backup_restored_seconds > 9 * 86400" "for more than a week no backup of this machine was restored to see whether it can be")
  # The guest follows the host's clock by itself (rave_guest/clock.py), so this says that it cannot.
  (machine "ClockWrong" "warning" "abs(rave_clock_offset_seconds) > 5" "the clock is more than 5 s off the host's")
  (machine "DiskReadOnly" "critical" "rave_disk_readonly == 1" "the disk takes no more writes")
  (machine "DiskErrors" "critical" "rave_filesystem_errors > 0" "the file system has met errors")
  (machine "OutOfMemory" "warning" "increase(rave_oom_kills_total[10m]) > 0" "the kernel killed a process for want of memory")
  # A message that was not taken, a page that did not come: its database is away, the disk full. It is scraped each minute.
  (alert "matrix" "ChatFails" "warning" ''sum(increase(synapse_http_server_responses_total{code=~"5.."}[5m])) > 5'' "Matrix fails to answer what its clients ask" // { hold = "70s"; })
  # NATS is away or full. That they have waited is in the figure already, so it need not hold; ten seconds are
  # more than NATS takes to start again with another password.
  (alert "webhook-dispatcher" "WebhooksWait" "warning" "rave_dispatcher_oldest_waiting_seconds > 10" "webhooks have waited for more than 10 seconds to be handed over" // { hold = "0s"; })
  # The chat or NATS is away, or takes no more; the accounts cannot be asked.
  (alert "chat-bridge" "CommandsWait" "warning" "rave_bridge_oldest_undecided_seconds > 5 or rave_bridge_connected < 1" "the chat bridge cannot do what is commanded: see its health" // { hold = "5s"; })
  (machine "TasksHung" "warning" "increase(rave_hung_tasks[10m]) > 0" "a task was stuck for two minutes")
]
