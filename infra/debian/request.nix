# What a lock is made for: the foundation and what the services of a profile bring, from the archives.
packages: services:
let
  unique = builtins.foldl' (seen: name: if builtins.elem name seen then seen else seen ++ [ name ]) [ ];
in
{
  inherit (import ./archives.nix) archives;
  inherit (packages) kernel tools;
  guest = unique (builtins.sort builtins.lessThan (packages.foundation ++ services));
}
