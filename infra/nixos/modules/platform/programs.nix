# The platform's own programs (src/rave_platform): what runs one, from the one source that both bases have.
{ config, lib, pkgs, ... }:
let
  python = pkgs.python3;
  platform = python.pkgs.toPythonModule (pkgs.runCommandLocal "rave-platform" { } ''
    mkdir -p $out/${python.sitePackages}
    cp -r ${../../../../src/rave_platform} $out/${python.sitePackages}/rave_platform
  '');
  interpreter = python.withPackages
    (packages: [ platform ] ++ (with packages; [ httpx nats-py prometheus-client pydantic starlette uvicorn ]));
in
{
  options.rave.platformProgram = lib.mkOption {
    type = lib.types.functionTo lib.types.str;
    readOnly = true;
    internal = true;
    description = "The command that runs a module of rave_platform.";
  };
  options.rave.platformSettings = lib.mkOption {
    type = lib.types.functionTo (lib.types.functionTo lib.types.raw);
    readOnly = true;
    internal = true;
    description = "A file of settings, by name and content.";
  };

  config.rave = {
    platformProgram = module: "${interpreter}/bin/python3 -Im rave_platform.${module}";
    platformSettings = name: (pkgs.formats.toml { }).generate "${name}.toml";
  };
}
