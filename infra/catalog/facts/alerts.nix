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
  # The host says so whenever it fetches; a machine whose log is not fetched has no such metric.
  (machine "LogLate" "warning" "rave_log_due_seconds < time()" "the host has not fetched PostgreSQL's log for a quarter of an hour: rave backup status")
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
  # Killed, or it cannot start: it is scraped each 8 s, so that this is known sooner than of others. Whoever does not
  # answer at all is told by its health questions, too.
  (alert "webhook-dispatcher" "PlatformDown" "critical" ''up{job=~"webhook-dispatcher|chat-bridge"} == 0 unless on (service) rave_service_on_its_way == 1'' "{{ $labels.service }} gives no metrics" // { hold = "5s"; })
  # The disk is full, or more waits for NATS than may: senders are told to come again.
  (alert "webhook-dispatcher" "WebhooksNotStored" "critical" ''increase(rave_dispatcher_refused_total{reason="not-stored"}[1m]) > 0'' "webhooks of {{ $labels.source }} are turned away, since they cannot be stored" // { hold = "0s"; })
  (alert "webhook-dispatcher" "WebhooksDead" "warning" ''rave_dispatcher_events{state="dead"} > 0'' "the stream does not take {{ $value }} events: rave events dead" // { hold = "0s"; })
  # The chat takes its time, or turns answers down; what is decided is not said, or does not reach the agents.
  (alert "chat-bridge" "AnswersWait" "warning" "rave_bridge_oldest_waiting_seconds > 10" "what was decided in chat has waited for more than 10 seconds to be said or handed over" // { hold = "0s"; })
  (alert "chat-bridge" "AnswersDead" "warning" "rave_bridge_dead > 0" "the chat or the stream does not take {{ $value }} of what was decided" // { hold = "0s"; })
  # A task takes minutes, and others wait for its agent meanwhile: this is of one that nobody begins.
  (alert "chat-bridge" "TasksWait" "warning" ''rave_bridge_consumer_messages{consumer=~"agents-.*",state="pending"} > 0'' "tasks have waited for ten minutes: {{ $labels.consumer }}" // { hold = "10m"; })
  # An image that was not taken, or cannot be read: the disk is full, a file is damaged. It is scraped each minute.
  (alert "docker-registry" "RegistryFails" "warning" ''sum(increase(registry_http_requests_total{code=~"5.."}[5m])) > 2'' "the registry fails to take or to give images" // { hold = "70s"; })
  # NATS is away or full, or the agent hangs: it gives a sign of life each 15 s, and each is a figure of its own.
  (alert "agents" "AgentSilent" "warning" "rave_agent_silent_seconds > 22" "the agent {{ $labels.agent }} is not heard: tasks for it wait" // { hold = "0s"; })
  (machine "TasksHung" "warning" "increase(rave_hung_tasks[10m]) > 0" "a task was stuck for two minutes")
]
