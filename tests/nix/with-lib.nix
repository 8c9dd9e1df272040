# Evaluates a profile with nothing but nixpkgs' `lib` and sops-nix: our own options, types, assertions and
# units are real; upstream's are a tree that takes anything, and packages are names.
{ libPath, sopsNix, root, profile, mode ? "safe", modules ? [ ] }:
let
  lib = import libPath;
  inherit (lib) mkOption types;

  # A value that merges as its shape suggests.
  loose = lib.mkOptionType {
    name = "loose";
    description = "anything";
    check = _: true;
    emptyValue.value = { };
    merge = location: definitions:
      let values = map (definition: definition.value) definitions; first = lib.head values; in
      if lib.all (value: lib.isAttrs value && !lib.isDerivation value) values then (types.lazyAttrsOf loose).merge location definitions
      else if lib.all lib.isList values then lib.concatLists values
      else if lib.length values > 1 && lib.all lib.isString values then lib.concatStringsSep "\n" (lib.unique values)
      else if lib.length values == 1 || lib.isDerivation first then first
      else lib.mergeEqualOption location definitions;
  };
  looseWith = defaults: mkOption { type = loose; default = defaults; };

  package = name: {
    type = "derivation";
    inherit name;
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
    meta.mainProgram = name;
    override = _: package name;
    text = "";
  };
  texts = lib.genAttrs [ "writeScript" "writeText" "writeShellScript" ] (_: name: text: package name // { inherit text; });
  pkgs = lib.genAttrs
    [ "apacheHttpd" "claude-code-router" "coreutils" "element-web" "iproute2" "jq" "nats-server" "nftables" "nodejs" "openssl" "postgresql_17" "sops" "util-linux" "git" ]
    package // texts // {
    python3 = package "python3" // {
      sitePackages = "lib/python3/site-packages";
      pkgs.toPythonModule = found: found;
      withPackages = _: package "python3-env";
    };
    formats.toml = _: { generate = name: content: package name // { text = builtins.toJSON content; }; };
    inherit lib;
    runtimeShell = "/bin/sh";
    runCommandLocal = name: _: buildCommand: package name // { inherit buildCommand; };
    # sops-nix asks for its package, and for the function that writes its manifest.
    callPackage = _: _: {
      sops-install-secrets = package "sops-install-secrets";
      __functor = _: _suffix: _secrets: _templates: _extra: package "manifest.json";
    };
  };

  list = mkOption { type = types.listOf types.str; default = [ ]; };
  lines = mkOption { type = types.lines; default = ""; };
  service = types.submodule {
    freeformType = types.lazyAttrsOf loose;
    options = lib.genAttrs [ "after" "before" "requires" "wants" "wantedBy" "partOf" ] (_: list)
      // lib.genAttrs [ "preStart" "script" "postStart" ] (_: lines)
      // lib.genAttrs [ "environment" "serviceConfig" "unitConfig" ] (_: mkOption { type = types.attrsOf loose; default = { }; });
  };
  account = types.submodule {
    freeformType = types.lazyAttrsOf loose;
    options.group = mkOption { type = types.str; default = "root"; };
  };

  upstream = {
    config._module.freeformType = types.lazyAttrsOf loose;
    options = {
      assertions = mkOption { type = types.listOf types.unspecified; default = [ ]; };
      warnings = list;
      systemd = {
        package = looseWith (package "systemd");
        services = mkOption { type = types.attrsOf service; default = { }; };
        slices = looseWith { };
      };
      users.users = mkOption { type = types.attrsOf account; default = { }; };
      networking.firewall.allowedTCPPorts = mkOption { type = types.listOf types.port; default = [ ]; };
      services = {
        gitlab = {
          user = looseWith "gitlab";
          group = looseWith "gitlab";
          statePath = looseWith "/var/gitlab/state";
        };
        nginx.virtualHosts = looseWith { };
        outline = { package = looseWith (package "outline"); group = looseWith "outline"; };
        postgresql = {
          ensureUsers = mkOption {
            default = [ ];
            type = types.listOf (types.submodule {
              freeformType = types.lazyAttrsOf loose;
              options.ensureClauses = looseWith { };
            });
          };
          ensureDatabases = list;
          finalPackage = looseWith (package "postgresql");
        };
        prometheus = {
          scrapeConfigs = mkOption { type = types.listOf loose; default = [ ]; };
          retentionTime = looseWith "";
        };
        redis = {
          package = looseWith (package "redis");
          servers = mkOption {
            default = { };
            type = types.attrsOf (types.submodule ({ name, ... }: {
              freeformType = types.lazyAttrsOf loose;
              options = {
                unixSocket = looseWith "/run/redis-${name}/redis.sock";
                user = looseWith "redis-${name}";
              };
            }));
          };
        };
        mattermost = { user = looseWith "mattermost"; database.password = looseWith "mmpgsecret"; };
      } // lib.genAttrs [ "openssh" ] (_: looseWith { });
    };
    # Accounts that upstream's modules would declare and the catalog names.
    config.users.users = lib.genAttrs
      [ "root" "gitlab" "grafana" "mattermost" "matrix-synapse" "nats" "nginx" "outline" "prometheus" "redis-rave" ]
      (_: { });
  };
in
lib.evalModules {
  specialArgs = { inherit pkgs; modulesPath = root + "/tests/nix/upstream"; };
  modules = [
    upstream
    (sopsNix + "/modules/sops")
    (root + "/infra/nixos/profiles/${profile}.nix")
    { rave.mode = mode; }
  ] ++ modules;
}
