# Flake outputs of the NixOS base. The attribute names are literals: listing outputs, or evaluating those
# of the other base, must never force nixpkgs, which an offline machine does not have.
{ self, nixpkgs, sops-nix, catalog }:
let
  system = "x86_64-linux";
  pkgs = nixpkgs.legacyPackages.${system};

  configuration = profile: mode: nixpkgs.lib.nixosSystem {
    inherit system;
    modules = [
      sops-nix.nixosModules.sops
      (./profiles + "/${profile}.nix")
      { rave.mode = mode; }
    ];
  };
  image = name: self.nixosConfigurations.${name}.config.system.build.images.qemu;

  # The whole platform comes with each: a service asks others for what it needs by contract.
  service = id: {
    imports = [ self.nixosModules.default ];
    services.rave.${id}.enable = true;
  };

  test = file: import file { inherit pkgs sops-nix; };
in
{
  nixosConfigurations = {
    demo = configuration "demo" "safe";
    demo-full = configuration "demo" "full";
    development = configuration "development" "safe";
    development-full = configuration "development" "full";
    production = configuration "production" "safe";
    production-full = configuration "production" "full";
  };

  packages.${system} = {
    demo = image "demo";
    demo-full = image "demo-full";
    development = image "development";
    development-full = image "development-full";
    production = image "production";
    production-full = image "production-full";

    # The names of before there were profiles.
    rave-qcow2 = self.packages.${system}.production;
    rave-qcow2-dev = self.packages.${system}.development;
    rave-qcow2-demo = self.packages.${system}.demo;

    rave-cli = import ./cli.nix { inherit pkgs self; };
  };

  lib = {
    # productionWithPort 8443: the image of production whose status page and applications are at that port.
    productionWithPort = port:
      (self.nixosConfigurations.production.extendModules {
        modules = [ { services.rave.nginx.ports.status = port; } ];
      }).config.system.build.images.qemu;
  };

  nixosModules = {
    default.imports = [ sops-nix.nixosModules.sops ./modules ];
    foundation.imports = [ sops-nix.nixosModules.sops ./profiles/foundation.nix ];
  } // builtins.listToAttrs (map
    (id: { name = id; value = service id; })
    (builtins.filter (id: catalog.services.${id}.bases ? nixos) (builtins.attrNames catalog.services)));

  checks.${system} = {
    minimal-test = test ./tests/minimal.nix;
    contract-test = test ./tests/contract.nix;
    databases-test = test ./tests/databases.nix;
    monitoring-test = test ./tests/monitoring.nix;
    forge-test = test ./tests/forge.nix;
    chat-test = test ./tests/chat.nix;
    applications-test = test ./tests/applications.nix;
  };

  devShells.${system}.default = pkgs.mkShell {
    packages = with pkgs; [
      age
      dpkg
      e2fsprogs
      git
      gnumake
      jq
      libfaketime
      nmap
      openssh
      postgresql
      python3
      qemu_kvm
      ruff
      sops
    ];
  };

  apps.${system}.default = {
    type = "app";
    program = "${self.packages.${system}.rave-cli}/bin/rave";
  };
}
