# Secrets: sops-nix, fed after the boot.
#
# `rave secrets install` puts a SOPS file, encrypted to this machine alone, into /var/lib/rave/secrets over
# pinned SSH. Until then sops-install-secrets is skipped, not failed, and every unit that needs a secret
# waits: its condition is not met. Nothing has a default password.
#
# The age identity that opens the file comes with each boot, as a credential of the machine, so that the
# disk alone opens nothing. A host with an older rave hands none over; then it is kept beside the file.
{ config, lib, pkgs, ... }:
let
  cfg = config.security.rave;
  inherit (config.rave) plan;

  directory = "/var/lib/rave/secrets";
  handed = "/run/credentials/@system/rave.age-key";
  kept = "${directory}/age.key";
  # In memory. sops-nix reads one place, whichever of the two it comes from.
  identity = "/run/rave-age/key";
  file = "${directory}/secrets.sops.yaml";

  place = pkgs.writeShellScript "rave-place-age-key" ''
    set -eu
    umask 077
    mkdir -p ${dirOf identity}
    if [ -e ${handed} ]; then
      cat ${handed} >${identity}
      rm -f ${kept}
    else
      cat ${kept} >${identity}
    fi
  '';

  # The catalog names owners for every base; where this one has no such account, root reads for it.
  ownerOf = secret: if config.users.users ? ${secret.owner} then secret.owner else "root";

  users = lib.attrNames cfg.needs;
  needing = name: lib.filter (unit: lib.elem name cfg.needs.${unit}.secrets) users;
  services = map (unit: "${unit}.service");

  undeclared = lib.concatMap
    (unit: map (name: { inherit unit name; })
      (lib.filter (name: !(plan.secrets ? ${name})) cfg.needs.${unit}.secrets))
    users;
in
{
  options.security.rave = {
    sopsBootstrap = {
      enable = lib.mkOption {
        type = lib.types.bool;
        default = true;
        description = "Whether secrets reach this machine through an age identity delivered after its boot.";
      };
    };

    needs = lib.mkOption {
      default = { };
      description = "Units that cannot start without secrets, by name without `.service`.";
      type = lib.types.attrsOf (lib.types.submodule {
        options = {
          secrets = lib.mkOption {
            type = lib.types.listOf lib.types.str;
            default = [ ];
            description = "Secrets of the catalog.";
          };
          templates = lib.mkOption {
            type = lib.types.listOf lib.types.str;
            default = [ ];
            description = "Templates of `sops.templates`.";
          };
        };
      });
    };

    path = lib.mkOption {
      type = lib.types.functionTo lib.types.str;
      readOnly = true;
      internal = true;
      description = "Where a secret of the plan is found at run time.";
    };
  };

  config = lib.mkMerge [
    {
      security.rave.path = name: plan.secrets.${name}.path or (throw
        "security.rave.path: no enabled service declares the secret ${name}; see `secrets` of its record in the catalog.");

      assertions = [
        {
          assertion = plan.secrets == { } || cfg.sopsBootstrap.enable;
          message = "security.rave.sopsBootstrap.enable: services of this machine need secrets (${
            toString (lib.attrNames plan.secrets)
          }), and nothing else brings them.";
        }
      ] ++ map
        ({ unit, name }: {
          assertion = false;
          message = "security.rave.needs.${unit}.secrets: no enabled service declares the secret ${name}; see `secrets` of its record in the catalog.";
        })
        undeclared;

      systemd.services = lib.mapAttrs
        (_: needed: {
          after = [ "sops-install-secrets.service" ];
          unitConfig.ConditionPathExists =
            map (name: "/run/secrets/${name}") needed.secrets
            ++ map (name: config.sops.templates.${name}.path) needed.templates;
        })
        cfg.needs;
    }

    (lib.mkIf (cfg.sopsBootstrap.enable && plan.secrets != { }) {
      sops = {
        # Both are run-time paths: nothing of a machine's secrets is known when its image is built.
        defaultSopsFile = file;
        validateSopsFiles = false;
        age = {
          keyFile = identity;
          # The host key identifies the machine; that it could also decrypt would tie the two together.
          sshKeyPaths = [ ];
        };
        gnupg.sshKeyPaths = [ ];
        useSystemdActivation = true;

        secrets = lib.mapAttrs
          (name: secret: {
            inherit (secret) mode;
            owner = ownerOf secret;
            restartUnits = lib.unique (secret.refresh ++ services (needing name));
          })
          plan.secrets;
      };

      systemd.services.sops-install-secrets = {
        # `|`: one of the two.
        unitConfig.ConditionPathExists = [ file "|${handed}" "|${kept}" ];
        serviceConfig.ExecStartPre = place;
      };
    })
  ];
}
