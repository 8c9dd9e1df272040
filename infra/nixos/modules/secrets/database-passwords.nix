# postgres-set-<role>-password: carries a role's password from its secret into PostgreSQL, after the
# roles exist and before anyone logs in with it. Until then the role has no password, so nobody can.
{ config, lib, ... }:
let
  inherit (config.rave) plan databases;

  # The Debian base's statements: psql reads the password from its standard input into a variable of its
  # own, so it is in no argument, no environment and no log.
  statements = ../../../guest/set-role-password.sql;

  setter = database:
    let
      unit = lib.removeSuffix ".service" database.unit;
      consumers = databases.${database.role}.units;
    in
    {
      security.rave.needs.${unit}.secrets = [ database.secret ];

      systemd.services.${unit} = {
        description = "Password of the PostgreSQL role ${database.role}";
        wantedBy = [ "multi-user.target" ];
        # postgresql.target, not .service: only then are the roles there and writable.
        requires = [ "postgresql.target" ];
        after = [ "postgresql.target" ];
        before = consumers;
        path = [ config.services.postgresql.finalPackage ];
        script = ''
          psql -XAtq -d postgres -v ON_ERROR_STOP=1 -v role=${database.role} -f ${statements} \
            <"$CREDENTIALS_DIRECTORY/password"
        '';
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          User = "postgres";
          Group = "postgres";
          LoadCredential = "password:${config.security.rave.path database.secret}";
          PrivateTmp = true;
          PrivateNetwork = true;
          ProtectHome = true;
          ProtectSystem = "strict";
          NoNewPrivileges = true;
          CapabilityBoundingSet = "";
        };
      };
    };

  setters = map setter plan.databases;
in
{
  config = {
    rave.databases = lib.listToAttrs (map (database: lib.nameValuePair database.role { }) plan.databases);
    security.rave.needs = lib.mkMerge (map (set: set.security.rave.needs) setters);
    systemd.services = lib.mkMerge (map (set: set.systemd.services) setters);

    assertions = map
      (database: {
        assertion = config.services.rave.postgresql.enable;
        message = "services.rave.postgresql.enable: the role ${database.role} is asked for, but PostgreSQL is not enabled.";
      })
      plan.databases;
  };
}
