# The profiles: which services run, with which resources. Memory in MiB, disk in GiB.
#
# `safe` is the default mode (memory-disciplined); `full` (FULL_PIPE) lifts it.
let
  foundation = [ "sshd" "firewall" "fail2ban" "nginx" "portal" ];

  demo = foundation ++ [
    "postgresql"
    "redis"
    "nats"
    "prometheus"
    "alertmanager"
    "node-exporter"
    "postgres-exporter"
    "nginx-exporter"
    "redis-exporter"
    "nats-exporter"
    "grafana"
  ];

  development = demo ++ [
    "canaille"
    "gitlab"
    "mattermost"
    "matrix"
    "element"
    "hydrogen"
    "pagure"
    "pagure-worker"
    "buildbot"
    "buildbot-worker"
    "docker-registry"
    "webhook-dispatcher"
    "chat-bridge"
    "agents"
    "vibe-kanban"
    "claude-code-router"
  ];

  production = development ++ [ "penpot" "outline" "n8n" ];
in
{
  demo = {
    description = "show and test the platform in minutes";
    services = demo;
    features = [ "databases" "messaging" "monitoring" ];
    resources = {
      safe = { memoryMiB = 2048; cpus = 2; diskGiB = 12; };
      full = { memoryMiB = 4096; cpus = 2; diskGiB = 12; };
    };
  };

  development = {
    description = "daily work without the heavy applications";
    services = development;
    features = [ "databases" "messaging" "monitoring" "forge" "chat" "agents" ];
    resources = {
      safe = { memoryMiB = 6144; cpus = 2; diskGiB = 30; };
      full = { memoryMiB = 8192; cpus = 4; diskGiB = 30; };
    };
  };

  production = {
    description = "everything";
    services = production;
    features = [ "databases" "messaging" "monitoring" "forge" "chat" "agents" "design" "documents" "automation" ];
    resources = {
      safe = { memoryMiB = 8192; cpus = 4; diskGiB = 40; };
      full = { memoryMiB = 12288; cpus = 6; diskGiB = 40; };
    };
  };
}
