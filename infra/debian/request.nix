# What a lock is made for: the foundation and what the services of a profile bring, from the archives, from the
# index of Python's packages and from the registry of npm. `services` is catalog.debianRequest's answer.
packages: services:
let
  release = import ./archives.nix;
  unique = builtins.foldl' (seen: name: if builtins.elem name seen then seen else seen ++ [ name ]) [ ];
  # Of a service's maker; a lock does not mention what is the usual.
  makers = map
    (archive: builtins.removeAttrs archive (if archive.components or [ "main" ] == [ "main" ] then [ "components" ] else [ ]))
    services.archives;
  # A lock does not mention what nobody asks for.
  present = name: if services.${name} == { } then { } else { ${name} = services.${name}; };
in
{
  archives = release.archives ++ builtins.filter (archive: builtins.any (name: builtins.elem name services.packages) archive.only) release.newer ++ makers;
  inherit (packages) kernel tools;
  guest = unique (builtins.sort builtins.lessThan (packages.foundation ++ services.packages));
} // present "wheels" // present "tarballs"
