# PostgreSQL 17: a role and a database of its own name for each consumer in the plan.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.postgresql;
  inherit (config.rave) plan mode databases facts;
  agreed = (import ../../catalog).facts.postgresql;

  owners = lib.filter (database: database.name != null) plan.databases;
  roles = map (database: database.role) plan.databases;

  # A role gets into its own database, or, if it has none, into `postgres` to watch.
  access = lib.concatMapStrings
    (database: ''
      host ${if database.name == null then "postgres" else database.name} ${database.role} 127.0.0.1/32 scram-sha-256
    '')
    plan.databases;

  run = database: sql: "psql -X -q -v ON_ERROR_STOP=1 -d ${database} -c ${lib.escapeShellArg sql}";
  preparation = lib.concatMap
    (database:
      map (extension: run database.name ''CREATE EXTENSION IF NOT EXISTS "${extension}"'') databases.${database.role}.extensions
      ++ map (group: run "postgres" ''GRANT "${group}" TO "${database.role}"'') databases.${database.role}.memberOf)
    plan.databases;

  misnamed = lib.filter (database: database.name != database.role) owners;
in
{
  options.services.rave.postgresql = {
    sharedBuffersMiB = lib.mkOption {
      type = lib.types.ints.positive;
      default = agreed.sharedBuffersMiB.${mode};
      defaultText = lib.literalMD "by `rave.mode`: 64 or 256";
      description = "PostgreSQL's own cache in MiB.";
    };
    maxConnections = lib.mkOption {
      type = lib.types.ints.between 20 500;
      default = agreed.maxConnections.${mode};
      defaultText = lib.literalMD "by `rave.mode`: 120 or 200";
      description = "Connections, of all roles together.";
    };
  };

  config = lib.mkIf cfg.enable {
    rave.facts.postgresql = {
      sharedBuffersMiB.${mode} = cfg.sharedBuffersMiB;
      maxConnections.${mode} = cfg.maxConnections;
    };

    assertions = map
      (database: {
        assertion = false;
        message = "services.rave.postgresql: the catalog's database ${database.name} must be named as its role ${database.role}.";
      })
      misnamed
      ++ map
      (role: {
        assertion = lib.elem role roles;
        message = "rave.databases.${role}: no enabled service declares this role in the catalog.";
      })
      (lib.attrNames databases);

    services.postgresql = {
      enable = true;
      # Pinned: the default follows the state version, and a new major needs a migration.
      package = pkgs.postgresql_17;
      # Synapse refuses a database of any other collation, and sorting by bytes is fast.
      initdbArgs = [ "--locale=C" "--encoding=UTF8" "--data-checksums" ];
      ensureDatabases = map (database: database.name) owners;
      ensureUsers = map
        (database: { name = database.role; ensureDBOwnership = database.name != null; })
        plan.databases;
      # Root asks for the superuser's account over the socket: the guest's own health question.
      identMap = "postgres root postgres";
      authentication = lib.mkForce ''
        local all postgres peer map=postgres
        ${access}
      '';
      settings = facts.postgresql.settings // {
        listen_addresses = lib.mkForce "127.0.0.1";
        port = cfg.ports.postgresql;
        max_connections = cfg.maxConnections;
        shared_buffers = "${toString cfg.sharedBuffersMiB}MB";
      };
    };

    # Extensions and grants need the superuser and the databases that the setup has just made.
    systemd.services.postgresql-setup.script = lib.mkAfter (lib.concatLines preparation);
  };
}
