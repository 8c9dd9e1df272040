# The machine: virtio on q35, a serial console, a disk that grows to what it is given.
{ config, lib, modulesPath, pkgs, ... }:
let
  inherit (config.rave) profile plan;
in
{
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];

  boot = {
    kernelParams = [ "console=ttyS0" "panic=1" ];
    # PID 1 reads the machine's credentials from the SMBIOS tables, which these two expose.
    initrd.kernelModules = [ "dmi_sysfs" "qemu_fw_cfg" ];
    loader.timeout = 0;
    kernel.sysctl = {
      "kernel.dmesg_restrict" = 1;
      "kernel.kptr_restrict" = lib.mkForce 2;
      "kernel.sysrq" = 0;
      "kernel.unprivileged_bpf_disabled" = 1;
      "kernel.yama.ptrace_scope" = lib.mkDefault 2;
      "net.core.bpf_jit_harden" = 2;
    };
  };

  # Without a disk of its own the configuration still evaluates to a system; the image variant below
  # says what the disk really is.
  fileSystems."/" = lib.mkDefault {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
    autoResize = true;
  };
  boot.loader.grub.device = lib.mkDefault "/dev/vda";

  image.modules.qemu = {
    image.baseName = lib.mkForce (lib.removeSuffix ".qcow2" plan.qcow);
    virtualisation.diskSize = plan.resources.${config.rave.mode}.diskGiB * 1024;
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
