# The services of the platform and what they have in common. Importing it changes nothing: services are
# off until they are enabled. What makes a machine of it is in ../profiles/foundation.nix.
#
# Each entry of ../services is the module of the service of that name.
{
  imports = [
    ./platform/options.nix
    ./platform/services.nix
    ./platform/contracts.nix
    ./platform/limits.nix
    ./platform/programs.nix
    ./secrets/bootstrap.nix
    ./secrets/database-passwords.nix
    ./secrets/literals.nix
  ] ++ map (name: ../services + "/${name}") (builtins.attrNames (builtins.readDir ../services));
}
