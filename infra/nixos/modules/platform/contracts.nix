# What services ask of each other without knowing each other. A service fills in a request; the
# module that can serve it (nginx, PostgreSQL, an OpenID Connect provider) does so if it is enabled.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options.rave = {
    ingress = mkOption {
      default = { };
      description = "Web applications to serve as `<name>.<domain>` over TLS.";
      type = types.attrsOf (types.submodule ({ name, ... }: {
        options = {
          title = mkOption {
            type = types.str;
            default = name;
            description = "Name shown on the status page.";
          };
          upstream = mkOption {
            type = types.nullOr types.str;
            default = null;
            example = "http://127.0.0.1:3000";
            description = "Where requests go.";
          };
          root = mkOption {
            type = types.nullOr types.path;
            default = null;
            description = "Directory of static files, in place of `upstream`.";
          };
          path = mkOption {
            type = types.strMatching "/([A-Za-z0-9_-]+/)*";
            default = "/";
            example = "/api/";
            description = "What of it is served; all else is not there.";
          };
          group = mkOption {
            type = types.nullOr types.str;
            default = null;
            description = "Group that may use the Unix socket named in `upstream`.";
          };
          websockets = mkOption {
            type = types.bool;
            default = false;
            description = "Whether connections may be upgraded.";
          };
          maxBodySize = mkOption {
            type = types.strMatching "[0-9]+[kmg]?";
            default = "16m";
            description = "Largest request.";
          };
          loopbackPort = mkOption {
            type = types.nullOr types.port;
            default = null;
            description = "Also serve it without TLS on this loopback port, for an upstream that has none of its own.";
          };
        };
      }));
    };

    databases = mkOption {
      default = { };
      description = "What a PostgreSQL role of the plan needs beyond a database of its own name.";
      type = types.attrsOf (types.submodule {
        options = {
          extensions = mkOption {
            type = types.listOf (types.strMatching "[a-z_-]+");
            default = [ ];
            description = "Extensions created in its database.";
          };
          memberOf = mkOption {
            type = types.listOf (types.strMatching "[a-z_-]+");
            default = [ ];
            description = "Roles granted to it.";
          };
          units = mkOption {
            type = types.listOf types.str;
            default = [ ];
            description = "Services that log in with its password and must start after it is set.";
          };
        };
      });
    };

    oidc.provider = mkOption {
      default = null;
      description = ''
        The OpenID Connect provider, if a service is one. `issuer` and `authorize` are reached by
        browsers; the other addresses by services on this machine.
      '';
      type = types.nullOr (types.submodule {
        options = lib.genAttrs [ "name" "issuer" "authorize" "token" "userinfo" "jwks" ] (field: mkOption {
          type = types.str;
          description = "The provider's ${field}.";
        });
      });
    };

    oidc.clients = mkOption {
      default = { };
      description = "Services that want to sign their users in with the provider; the name is the client id.";
      type = types.attrsOf (types.submodule {
        options = {
          secret = mkOption {
            type = types.str;
            description = "Secret of the catalog that holds the client secret.";
          };
          redirectUris = mkOption {
            type = types.nonEmptyListOf types.str;
            description = "Where the provider may send users back to.";
          };
        };
      });
    };

    url = mkOption {
      type = types.functionTo types.str;
      readOnly = true;
      internal = true;
      description = "Public address of a web application by name.";
    };
  };

  config = {
    rave.url = name: "https://${name}.${config.rave.domain}:${toString config.rave.publicPort}";

    assertions = [
      {
        assertion = config.rave.ingress == { } || config.services.rave.nginx.enable;
        message = "services.rave.nginx.enable: it serves what ${lib.concatStringsSep ", " (lib.attrNames config.rave.ingress)} ask for (rave.ingress), and nothing else does.";
      }
    ];
  };
}
