# The contract that the Debian base keeps too: the same program asks both.
{ pkgs, sops-nix }:
pkgs.testers.runNixOSTest {
  name = "rave-contract";
  nodes.machine = import ./machine.nix { inherit pkgs sops-nix; profile = "demo"; memoryMiB = 2048; };

  testScript = ''
    machine.wait_for_unit("rave-ready.service")
    print(machine.succeed("python3 ${./contract.py}"))
    machine.succeed("python3 ${./install_secrets.py}")
    print(machine.succeed("python3 ${./contract.py}"))
  '';
}
