# The contract that a guest of every base keeps: identity from credentials, stages on the
# virtio-serial port, the status document, and the programs that the CLI calls over SSH.
#
# The programs are the ones of the Debian base; only the shebang and the units around them differ.
{ config, lib, pkgs, ... }:
let
  inherit (config.rave) plan;
  needs = config.security.rave.needs;

  unitName = lib.removeSuffix ".service";
  waits = service: lib.any (unit: needs ? ${unitName unit}) service.units;
  waitingFor = name: lib.filter (unit: lib.elem name needs.${unit}.secrets) (lib.attrNames needs);

  # What `rave secrets install` has proven, and therefore waits for: the setters of database passwords,
  # and the services that secrets name for it. The rest may take minutes to start (GitLab does), so it
  # is only told to.
  provers = lib.filter (id: id != null) (lib.mapAttrsToList (_: secret: secret.proof) plan.secrets);
  proven = map (database: database.unit) plan.databases
    ++ lib.concatMap (id: plan.services.${id}.units) (lib.unique provers);

  # What the guest must know beyond the catalog: which services wait for secrets, and that
  # installing a secret also starts the units that waited for it.
  refreshing = name: secret:
    let
      units = lib.unique (secret.refresh ++ map (unit: "${unit}.service") (waitingFor name));
      parts = lib.partition (unit: lib.elem unit proven) units;
    in
    secret // { refresh = parts.right; later = parts.wrong; };

  # sops-nix renders these beside the secrets, and whoever looks at /run/secrets must know them.
  rendered = lib.mapAttrs'
    (name: template: lib.nameValuePair "rendered/${name}" {
      inherit (template) mode;
      owner = if template.owner == null then "root" else template.owner;
    })
    config.sops.templates;

  programs = ../../../guest;
  guest = pkgs.runCommandLocal "rave-guest" { } ''
    install -d $out
    install -m 0644 ${pkgs.writeText "plan.json" (builtins.toJSON config.rave.guestPlan)} $out/plan.json
    install -m 0755 ${lib.getExe pkgs.sops} $out/sops
    cp -r ${../../../../src/rave_guest} $out/rave_guest

    install -m 0644 ${programs + "/stage.sh"} $out/stage.sh
    install -m 0755 ${programs + "/rave-guest"} $out/rave-guest
    install -m 0755 ${programs + "/emergency"} $out/emergency
    substituteInPlace $out/rave-guest --replace-fail '#!/usr/bin/python3' '#!${lib.getExe pkgs.python3}'
    substituteInPlace $out/emergency --replace-fail '#!/bin/sh' '#!${pkgs.runtimeShell}'
  '';

  emergency = {
    description = "Reports that the boot failed";
    wantedBy = [ "emergency.target" "rescue.target" ];
    unitConfig.DefaultDependencies = false;
    serviceConfig = { Type = "oneshot"; StandardOutput = "journal+console"; };
  };
  # The same program for the initrd, which has a /bin/sh and no /usr/lib/rave.
  stage = pkgs.writeText "stage.sh" (builtins.readFile (programs + "/stage.sh"));
  emergencyEarly = pkgs.writeScript "rave-emergency"
    (lib.replaceStrings [ "/usr/lib/rave/stage.sh" ] [ "${stage}" ] (builtins.readFile (programs + "/emergency")));

  early = pkgs.writeShellScript "rave-early" ''
    set -eu
    umask 022
    credentials=/run/credentials/@system
    mkdir -p /run/rave/ssh /run/rave/www /run/rave/metrics /run/rave/tls /dev/virtio-ports
    . ${guest}/stage.sh

    instance=""
    if [ -r "$credentials/rave.instance-id" ]; then
      read -r instance <"$credentials/rave.instance-id" || [ -n "$instance" ]
    fi
    printf '%s\n' "$instance" >/run/rave/instance-id
    stage systemd

    origin=""
    if [ -r "$credentials/rave.origin" ]; then
      read -r origin <"$credentials/rave.origin" || [ -n "$origin" ]
    fi
    printf '%s\n' "$origin" >/run/rave/origin

    # The certificate that the host made for this machine.
    if [ -r "$credentials/rave.tls-key" ] && [ -r "$credentials/rave.tls-certificate" ]; then
      install -m 0644 "$credentials/rave.tls-certificate" /run/rave/tls/machine.crt
      install -m 0600 "$credentials/rave.tls-key" /run/rave/tls/machine.key
    fi

    if [ -r "$credentials/rave.authorized-key" ]; then
      install -m 0644 "$credentials/rave.authorized-key" /run/rave/ssh/authorized_keys
    fi
  '';
in
{
  options.rave = {
    guestPlan = lib.mkOption {
      type = lib.types.raw;
      readOnly = true;
      internal = true;
      description = "The plan as the guest's programs read it.";
    };
    guestPackage = lib.mkOption {
      type = lib.types.package;
      readOnly = true;
      internal = true;
      description = "What /usr/lib/rave is.";
    };
  };

  config = {
    rave.guestPackage = guest;
    rave.guestPlan = plan // {
      services = lib.mapAttrs (_: service: service // { waits = waits service; }) plan.services;
      secrets = lib.mapAttrs refreshing plan.secrets;
      inherit rendered;
    };

    # The same place on every base, so the CLI never asks which one it talks to.
    systemd.tmpfiles.settings."10-rave" = {
      "/usr/lib/rave"."L+".argument = "${guest}";
      "/var/lib/rave/secrets".d = { mode = "0700"; user = "root"; group = "root"; };
    };

    systemd.services.rave-early = {
      description = "Identity of the machine";
      wantedBy = [ "sysinit.target" ];
      before = [ "sysinit.target" ];
      after = [ "systemd-udevd.service" "local-fs.target" ];
      unitConfig.DefaultDependencies = false;
      path = [ pkgs.coreutils ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = early;
      };
    };

    systemd.services.rave-ready = {
      description = "Reports the stages of the boot and keeps the status page current";
      wantedBy = [ "multi-user.target" ];
      after = [ "rave-early.service" "systemd-tmpfiles-setup.service" ];
      # The health questions of the catalog are programs of the system.
      path = [ config.systemd.package "/run/wrappers" "/run/current-system/sw" ];
      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${guest}/rave-guest ready";
        # The host must not take the verdict on this boot for one on the next.
        ExecStop = "${pkgs.runtimeShell} -c '. ${guest}/stage.sh; stage stopping'";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        TimeoutStartSec = "infinity";
        Restart = "on-failure";
        RestartSec = 2;
        MemoryMax = "64M";
        OOMScoreAdjust = -500;
        NoNewPrivileges = true;
      };
    };

    # What it runs is the operator's, so it is bounded no more than a session of sshd's.
    systemd.services.rave-command = {
      description = "Runs what the host asks for over its own port";
      wantedBy = [ "multi-user.target" ];
      after = [ "rave-ready.service" ];
      path = [ "/run/wrappers" "/run/current-system/sw" ];
      serviceConfig = {
        # A host waits for its answers; what it runs goes back to where all are.
        Nice = -10;
        ExecStart = "${guest}/rave-guest command";
        # A control group for each program, and no controller: those would come to every unit.
        Delegate = "";
        OOMPolicy = "continue";
        Restart = "on-failure";
        RestartSec = 2;
      };
    };

    # A machine that cannot boot says so on the port instead of waiting for a password nobody has: from the
    # system, and from the initrd before it.
    systemd.services.rave-emergency = emergency // {
      after = [ "rave-early.service" ];
      path = [ pkgs.coreutils config.systemd.package ];
      serviceConfig = emergency.serviceConfig // { ExecStart = "${guest}/emergency"; };
    };
    boot.initrd.systemd = {
      storePaths = [ emergencyEarly stage ];
      services.rave-emergency = emergency // {
        serviceConfig = emergency.serviceConfig // { ExecStart = emergencyEarly; };
      };
    };
  };
}
