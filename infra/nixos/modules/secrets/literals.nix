# A secret written as a Nix string would land in the world-readable store. Upstream offers several
# options that invite it; each is refused here by name.
{ config, lib, ... }:
let
  get = path: lib.attrByPath path null config;
  show = lib.concatStringsSep ".";

  # Grafana expands $__file{…} and $__env{…} at run time; everything else is taken as it stands.
  expands = value: lib.hasPrefix "$__" value;

  literal = path: allowed: let value = get path; in {
    assertion = value == null || value == allowed || (lib.isString value && expands value);
    message = "${show path}: a secret must not be given as a literal, it would be readable in the Nix store. Declare it in infra/catalog/secrets.nix.";
  };

  redisServers = lib.attrNames config.services.redis.servers;
  ensuredUsers = config.services.postgresql.ensureUsers;
in
{
  assertions =
    map ({ path, allowed ? null }: literal path allowed) (
      [
        # Mattermost's default is a password that nothing here uses: it logs in with the environment's.
        { path = [ "services" "mattermost" "database" "password" ]; allowed = "mmpgsecret"; }
        { path = [ "services" "grafana" "settings" "security" "admin_password" ]; allowed = "admin"; }
        { path = [ "services" "grafana" "settings" "security" "secret_key" ]; }
        { path = [ "services" "grafana" "settings" "database" "password" ]; allowed = ""; }
        { path = [ "services" "grafana" "settings" "auth.generic_oauth" "client_secret" ]; }
        { path = [ "services" "matrix-synapse" "settings" "registration_shared_secret" ]; }
        { path = [ "services" "matrix-synapse" "settings" "macaroon_secret_key" ]; }
        { path = [ "services" "matrix-synapse" "settings" "form_secret" ]; }
        { path = [ "services" "matrix-synapse" "settings" "database" "args" "password" ]; }
        { path = [ "services" "n8n" "environment" "N8N_ENCRYPTION_KEY" ]; }
        { path = [ "services" "n8n" "environment" "DB_POSTGRESDB_PASSWORD" ]; }
        { path = [ "services" "nats" "settings" "authorization" "password" ]; }
        { path = [ "services" "nats" "settings" "authorization" "token" ]; }
        { path = [ "users" "users" "root" "password" ]; }
        { path = [ "users" "users" "rave" "password" ]; }
        { path = [ "users" "users" "rave" "initialPassword" ]; }
      ]
      ++ map (name: { path = [ "services" "redis" "servers" name "requirePass" ]; }) redisServers
    )
    ++ map
      (user: {
        assertion = !(user.ensureClauses ? password) || user.ensureClauses.password == null;
        message = "services.postgresql.ensureUsers.${user.name}.ensureClauses.password: a secret must not be given as a literal, it would be readable in the Nix store. Declare it in infra/catalog/secrets.nix.";
      })
      ensuredUsers;
}
