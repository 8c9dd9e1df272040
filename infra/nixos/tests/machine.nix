# The machine of every test: a profile of the platform inside the test driver's VM, with a throw-away
# identity in place of the one that `rave vm start` makes.
{ pkgs, sops-nix, profile, memoryMiB }:
{ lib, ... }:
let
  identity = pkgs.runCommand "rave-test-identity" { nativeBuildInputs = [ pkgs.openssh pkgs.age ]; } ''
    mkdir $out
    age-keygen -o $out/age
    ssh-keygen -q -t ed25519 -N "" -C host -f $out/host
    ssh-keygen -q -t ed25519 -N "" -C login -f $out/login
  '';
  credential = name: file: "-fw_cfg name=opt/io.systemd.credentials/${name},file=${file}";
in
{
  imports = [ sops-nix.nixosModules.sops (../profiles + "/${profile}.nix") ];

  # The test driver names the machine, and reaches it through its own console.
  networking.hostName = lib.mkForce "machine";
  users.users.root.hashedPassword = lib.mkForce null;
  environment.etc."rave-test-identity".source = identity;
  environment.systemPackages = [ pkgs.age pkgs.sops pkgs.openssl pkgs.python3 pkgs.nmap ];

  virtualisation = {
    memorySize = memoryMiB;
    cores = 2;
    diskSize = 8192;
    qemu.options = [
      (credential "rave.instance-id" (pkgs.writeText "instance" "test-instance"))
      (credential "rave.ssh-host-key" "${identity}/host")
      (credential "rave.authorized-key" "${identity}/login.pub")
      (credential "rave.age-key" "${identity}/age")
      "-device virtio-serial-pci,id=rave-serial"
      "-chardev file,id=ready,path=ready.jsonl"
      "-device virtserialport,bus=rave-serial.0,chardev=ready,name=org.rave.ready"
    ];
  };
}
