# What both bases must agree on: one value per thing, rendered by each base in its own way. Every plan
# carries it as `facts`, so the smoke suite judges a machine by what it was made from.
#
# Where a program's own vocabulary says it (sshd_config, redis.conf, sysctl, alert rules), the fact is
# written in it, and a base has nothing to translate. What differs by mode is { safe, full }.
# Ports, memory caps and OOM scores belong to a service and stand in its record (services.nix).
let
  operator = "rave";
in
{
  # The one account that logs in, and becomes root by sudo. The key is its proof: it has no password.
  inherit operator;

  # QEMU's user network (QEMU manual, -netdev user): fixed addresses, so there is nothing to ask for at boot.
  network = {
    network = "10.0.2.0";
    prefix = 24;
    address = "10.0.2.15";
    gateway = "10.0.2.2";
    nameServer = "10.0.2.3";
  };

  # fail2ban. Through QEMU's user network every connection comes from one address, so a ban meets the
  # operator too: it is short, and established connections go on.
  failedLogins = 3;
  findSeconds = 600;
  banSeconds = 60;

  # Days that Prometheus keeps metrics.
  retentionDays = { safe = 3; full = 7; };

  # Event logs: bounded in size, and kept for a week or a month.
  journal = {
    sizeMiB = { safe = 256; full = 1024; };
    days = { safe = 7; full = 30; };
  };

  # What the caps of the services leave to the kernel, systemd, the journal and rave's own reporter.
  systemMiB = 192;

  nats = {
    user = "rave";
    maxConnections = 256;
    maxPayloadBytes = 1024 * 1024;
    memoryStoreMiB = 32;
    fileStoreMiB = 1024;
  };

  redis = {
    # Well below the cap of its unit: a snapshot forks, and what changes meanwhile is there twice.
    maxMemoryMiB = { safe = 64; full = 384; };
    settings = {
      appendfsync = "everysec";
      appendonly = "yes";
      databases = 16;
      enable-debug-command = "no";
      enable-module-command = "no";
      # Looks at its timers each second; more often as clients come (dynamic-hz).
      hz = 1;
      maxclients = 512;
      # Job queues must not lose jobs to eviction: a full store refuses writes.
      maxmemory-policy = "noeviction";
      save = "300 100";
    };
  };

  postgresql = {
    sharedBuffersMiB = { safe = 64; full = 256; };
    maxConnections = { safe = 120; full = 200; };
    settings = {
      # As much as by default (100 pages each 0.2 s), and a fifth of the wake-ups.
      bgwriter_delay = "1s";
      bgwriter_lru_maxpages = 500;
      idle_in_transaction_session_timeout = "10min";
      # Refused logins are logged anyway; each health question would be another line.
      log_connections = "off";
      log_min_duration_statement = 1000;
      # A statement with a password must not reach the journal, not even one that failed.
      log_min_error_statement = "panic";
      log_statement = "none";
      password_encryption = "scram-sha-256";
      superuser_reserved_connections = 3;
      tcp_keepalives_idle = 60;
    };
  };

  nginx = {
    # For one client: requests each second, as many more at once, connections.
    requestsPerSecond = 20;
    burst = 80;
    connections = 64;
    bodySize = "64k";
    headers = {
      Referrer-Policy = "same-origin";
      Strict-Transport-Security = "max-age=31536000";
      X-Content-Type-Options = "nosniff";
    };
    # The portal has a style sheet, scripts that draw what is written there, too, and a form to sign out by; all are files
    # of its own.
    pageHeaders = {
      Cache-Control = "no-store";
      Content-Security-Policy = "default-src 'none'; style-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
      X-Frame-Options = "DENY";
    };
    # Those files: they change with the image.
    fileHeaders.Cache-Control = "max-age=3600";
    # What is behind sign-in, of makers who write scripts into their pages.
    behindHeaders = {
      Cache-Control = "no-store";
      Content-Security-Policy = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'";
      X-Frame-Options = "DENY";
    };
  };

  prometheus = {
    # What rave says of services, units, memory and disk comes from its reporter, which is asked every
    # 8 s (services.nix): with these an alert of it reaches Alertmanager within 30 s. The other targets
    # only draw curves, and each costs an emulated processor 20 to 200 ms.
    global = {
      evaluation_interval = "10s";
      scrape_interval = "60s";
      scrape_timeout = "8s";
    };
    retentionSize = "2GB";
  };
  alerts = import ./alerts.nix;
  alertmanager = {
    route = {
      group_by = [ "alertname" "service" ];
      group_interval = "10s";
      group_wait = "1s";
      receiver = "platform";
      repeat_interval = "4h";
    };
    # A receiver outside the machine is the operator's to add; by itself it keeps alerts for its API.
    receivers = [ { name = "platform"; } ];
    # A service that is down gives no metrics either; once is enough.
    inhibit_rules = [
      {
        equal = [ "service" ];
        source_matchers = [ "alertname=\"ServiceUnhealthy\"" ];
        target_matchers = [ "alertname=~\"InstanceDown|PlatformDown\"" ];
      }
    ];
  };

  sudo = {
    # Every command goes to the journal.
    defaults = [
      "use_pty"
      "env_reset"
      "!lecture"
      "syslog=authpriv"
      "passwd_tries=1"
      "timestamp_timeout=0"
      "!fqdn"
    ];
    rules = [ "${operator} ALL=(ALL:ALL) NOPASSWD: ALL" ];
  };

  sshd = import ./sshd.nix operator;
  sysctl = import ./sysctl.nix;
}
