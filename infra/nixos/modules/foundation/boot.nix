# The machine: virtio on q35, a serial console, a disk that grows to what it is given.
{ config, lib, modulesPath, pkgs, ... }:
let
  inherit (config.rave) profile plan mode carried;
in
{
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];

  boot = {
    kernelParams = [ "console=ttyS0" "panic=1" ];
    # PID 1 reads the machine's credentials from the SMBIOS tables, which these two expose.
    initrd.kernelModules = [ "dmi_sysfs" "qemu_fw_cfg" ];
    loader.timeout = 0;
    # Above what upstream's modules set, below what an operator forces.
    kernel.sysctl = lib.mapAttrs (_: lib.mkOverride 90) config.rave.facts.sysctl;
  };

  # Without a disk of its own the configuration still evaluates to a system; the image variant below
  # says what the disk really is.
  fileSystems."/" = lib.mkDefault {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
    autoResize = true;
  };
  boot.loader.grub.device = lib.mkDefault "/dev/vda";

  # The variant's own image, with what it says of its guest beside it.
  image.modules.qemu = { config, ... }: {
    image.baseName = lib.mkForce (lib.removeSuffix ".qcow2" plan.qcow);
    virtualisation.diskSize = plan.resources.${mode}.diskGiB * 1024;
    system.build.image = lib.mkForce (import (modulesPath + "/../lib/make-disk-image.nix") {
      inherit lib config pkgs;
      inherit (config.virtualisation) diskSize;
      inherit (config.image) baseName format;
      partitionTableType = "legacy";
      postVM = "cp ${pkgs.writeText "plan.json" (builtins.toJSON carried)} $out/plan.json";
    });
  };

  networking.hostName = "rave";
  time.timeZone = "UTC";
  i18n.defaultLocale = "C.UTF-8";
  i18n.supportedLocales = [ "C.UTF-8/UTF-8" ];
  console.enable = false;

  # A guest is replaced by its next image, not rebuilt from within. (Switching must stay enabled: the
  # image's own build installs the boot loader with it.)
  nix.enable = false;
  documentation.enable = false;
  programs.command-not-found.enable = false;
  xdg.mime.enable = false;
  environment.defaultPackages = [ ];

  system.nixos.tags = [ "rave-${profile}" ];
  environment.systemPackages = [ pkgs.jq ];
}
