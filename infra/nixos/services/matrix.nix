# Matrix Synapse: team chat with single sign-on, for this machine alone (federation is off).
{ config, lib, ... }:
let
  cfg = config.services.rave.matrix;
  inherit (config.rave) url domain oidc;
  path = config.security.rave.path;
  address = "127.0.0.1";

  provider = {
    idp_id = "gitlab";
    idp_name = oidc.provider.name;
    client_id = "matrix";
    client_secret_path = path "oidc/matrix-client-secret";
    # Addresses instead of discovery: browsers reach the provider by its public name, Synapse inside.
    discover = false;
    issuer = oidc.provider.issuer;
    authorization_endpoint = oidc.provider.authorize;
    token_endpoint = oidc.provider.token;
    userinfo_endpoint = oidc.provider.userinfo;
    jwks_uri = oidc.provider.jwks;
    scopes = [ "openid" "profile" "email" ];
    user_mapping_provider.config = {
      localpart_template = "{{ user.nickname }}";
      display_name_template = "{{ user.name }}";
    };
  };
in
{
  options.services.rave.matrix = {
    serverName = lib.mkOption {
      type = lib.types.strMatching "[a-z0-9.-]+";
      default = domain;
      defaultText = lib.literalExpression "config.rave.domain";
      description = "The part of a Matrix address after the colon. It cannot be changed later.";
    };
  };

  config = lib.mkIf cfg.enable {
    rave.ingress.matrix = {
      title = "Matrix";
      upstream = "http://${address}:${toString cfg.ports.client}";
      maxBodySize = "50m";
    };
    rave.databases.synapse.units = [ "matrix-synapse.service" ];
    rave.oidc.clients = lib.mkIf (oidc.provider != null) {
      matrix = {
        secret = "oidc/matrix-client-secret";
        redirectUris = [ "${url "matrix"}/_synapse/client/oidc/callback" ];
      };
    };

    # libpq reads it by itself, so the password is in no configuration file of Synapse.
    sops.templates."synapse.pgpass" = {
      content = "${address}:*:synapse:synapse:${config.sops.placeholder."database/synapse-password"}";
      owner = "matrix-synapse";
      restartUnits = [ "matrix-synapse.service" ];
    };
    security.rave.needs.matrix-synapse = {
      secrets = [
        "database/synapse-password"
        "matrix/signing-key"
        "matrix/registration-shared-secret"
        "matrix/macaroon-secret-key"
        "matrix/form-secret"
        "oidc/matrix-client-secret"
      ];
      templates = [ "synapse.pgpass" ];
    };

    services.matrix-synapse = {
      enable = true;
      extras = [ "postgres" "oidc" "systemd" ];
      settings = {
        server_name = cfg.serverName;
        public_baseurl = "${url "matrix"}/";
        listeners = [
          {
            port = cfg.ports.client;
            bind_addresses = [ address ];
            type = "http";
            tls = false;
            x_forwarded = true;
            # `client` alone: without the federation resource no other server can reach this one.
            resources = [ { names = [ "client" ]; compress = false; } ];
          }
          {
            port = cfg.ports.metrics;
            bind_addresses = [ address ];
            type = "metrics";
            tls = false;
            resources = [ ];
          }
        ];
        federation_domain_whitelist = [ ];
        # Nor is it looked up, after each message, which others would have to be told.
        send_federation = false;
        trusted_key_servers = [ ];
        allow_public_rooms_over_federation = false;
        enable_registration = false;
        report_stats = false;
        enable_metrics = true;
        database = {
          name = "psycopg2";
          args = {
            host = address;
            port = config.services.rave.postgresql.ports.postgresql;
            user = "synapse";
            dbname = "synapse";
            passfile = config.sops.templates."synapse.pgpass".path;
            cp_min = 2;
            cp_max = 10;
          };
        };
        signing_key_path = path "matrix/signing-key";
        registration_shared_secret_path = path "matrix/registration-shared-secret";
        macaroon_secret_key_path = path "matrix/macaroon-secret-key";
        form_secret_path = path "matrix/form-secret";
        oidc_providers = lib.optional (oidc.provider != null) provider;
        password_config.enabled = true;
        caches.global_factor = 0.3;
        url_preview_enabled = false;
        max_upload_size = "50M";
      };
    };
    systemd.services.matrix-synapse.after = [ "postgresql.target" ];
  };
}
