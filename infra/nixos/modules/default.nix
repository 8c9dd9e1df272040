# The services of the platform and what they have in common. Importing it changes nothing: services are
# off until they are enabled. What makes a machine of it is in ../profiles/foundation.nix.
{
  imports = [
    ./platform/options.nix
    ./platform/contracts.nix
    ./platform/memory.nix
    ./platform/planned.nix
    ./secrets/bootstrap.nix
    ./secrets/database-passwords.nix
    ./secrets/literals.nix
    ../services/agents.nix
    ../services/alertmanager.nix
    ../services/claude-code-router.nix
    ../services/element.nix
    ../services/exporters.nix
    ../services/fail2ban.nix
    ../services/firewall.nix
    ../services/gitlab.nix
    ../services/gitlab-applications.nix
    ../services/grafana.nix
    ../services/matrix.nix
    ../services/mattermost.nix
    ../services/n8n.nix
    ../services/nats.nix
    ../services/nginx.nix
    ../services/outline.nix
    ../services/penpot.nix
    ../services/postgresql.nix
    ../services/prometheus.nix
    ../services/redis.nix
    ../services/sshd.nix
    ../services/vibe-kanban.nix
  ];
}
