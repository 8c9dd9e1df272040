# Outline and n8n. Penpot's containers come from a registry, which a test has not: its units are checked
# to wait in order, not to run.
{ pkgs, sops-nix }:
pkgs.testers.runNixOSTest {
  name = "rave-applications";
  # The profile says which unfree packages it admits.
  node.pkgsReadOnly = false;
  nodes.machine = { lib, ... }: {
    imports = [ (import ./machine.nix { inherit pkgs sops-nix; profile = "production"; memoryMiB = 8192; }) ];
    nixpkgs.hostPlatform = "x86_64-linux";
    services.rave.penpot.enable = lib.mkForce false;
  };

  testScript = ''
    machine.wait_for_unit("rave-ready.service", timeout=900)
    machine.succeed("python3 ${./install_secrets.py}")

    with subtest("Outline answers"):
        machine.wait_for_unit("outline.service", timeout=600)
        machine.wait_until_succeeds("curl -sf http://127.0.0.1:3010/_health | grep -q OK", 300)

    with subtest("n8n answers"):
        machine.wait_for_unit("n8n.service", timeout=600)
        machine.wait_until_succeeds("curl -sf http://127.0.0.1:5678/healthz | grep -q ok", 300)
  '';
}
