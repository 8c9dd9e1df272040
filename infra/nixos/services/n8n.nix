# n8n: workflow automation. Its licence (Sustainable Use) is not a free one; see the decision on unfree
# packages.
{ config, lib, ... }:
let
  cfg = config.services.rave.n8n;
  inherit (config.rave) url;
  path = config.security.rave.path;
in
{
  config = lib.mkIf cfg.enable {
    rave.ingress.n8n = {
      title = "n8n";
      upstream = "http://127.0.0.1:${toString cfg.ports.web}";
      websockets = true;
      maxBodySize = "32m";
    };
    rave.databases.n8n.units = [ "n8n.service" ];
    security.rave.needs.n8n.secrets = [ "n8n/encryption-key" "database/n8n-password" ];

    services.n8n = {
      enable = true;
      environment = {
        N8N_PORT = cfg.ports.web;
        N8N_LISTEN_ADDRESS = "127.0.0.1";
        # The broker of its task runners, which are its own children.
        N8N_RUNNERS_BROKER_PORT = cfg.ports.broker;
        N8N_RUNNERS_BROKER_LISTEN_ADDRESS = "127.0.0.1";
        N8N_EDITOR_BASE_URL = "${url "n8n"}/";
        WEBHOOK_URL = "${url "n8n"}/";
        N8N_PROXY_HOPS = 1;
        N8N_METRICS = true;
        N8N_HIRING_BANNER_ENABLED = false;
        N8N_DIAGNOSTICS_ENABLED = false;
        N8N_VERSION_NOTIFICATIONS_ENABLED = false;
        # The module turns every *_FILE into a credential of the unit.
        N8N_ENCRYPTION_KEY_FILE = path "n8n/encryption-key";
        DB_TYPE = "postgresdb";
        DB_POSTGRESDB_HOST = "127.0.0.1";
        DB_POSTGRESDB_PORT = config.services.rave.postgresql.ports.postgresql;
        DB_POSTGRESDB_DATABASE = "n8n";
        DB_POSTGRESDB_USER = "n8n";
        DB_POSTGRESDB_PASSWORD_FILE = path "database/n8n-password";
        EXECUTIONS_DATA_PRUNE = true;
        EXECUTIONS_DATA_MAX_AGE = 168;
        NODE_OPTIONS = "--max-old-space-size=${toString (cfg.memoryMiB * 3 / 4)}";
      };
    };
    systemd.services.n8n.after = [ "postgresql.target" ];
  };
}
