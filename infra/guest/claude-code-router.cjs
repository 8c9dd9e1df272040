// Runs Claude Code Router on the socket that systemd hands over, with what the machine's secrets say of
// providers, and ends when nobody has come for a while: the next one starts it again.
//
//     node claude-code-router.cjs CLI
//
// CLI is the router's own program. $CREDENTIALS_DIRECTORY has `providers` and `api-key`, $HOME is a directory that
// ends with the unit, $PORT is where the socket is. As long as nothing can be routed, each request is told why.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const net = require("node:net");
const path = require("node:path");

const HANDED = 3; // the first that systemd hands over: sd_listen_fds(3)
const IDLE_MS = 10 * 60 * 1000;
const LOOK_MS = 5 * 1000;
const HOWTO = "rave secrets edit";

// What an operator may say. The rest of the router's settings would name programs to load, or where it listens.
const KNOWN = ["API_TIMEOUT_MS", "PROXY_URL", "Providers", "Router"];

class NotConfigured extends Error {}

/** The value of a secret; without one there is nothing to route by. */
function credential(name) {
  try {
    return fs.readFileSync(path.join(process.env.CREDENTIALS_DIRECTORY || "", name), "utf8").trim();
  } catch {
    throw new NotConfigured("this machine has no secrets yet: rave secrets install");
  }
}

/** The router's settings, each key replaced by the name of a variable of this process; the values by these names. */
function settings(text, apiKey, port) {
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    throw new NotConfigured(`the secret claude-code-router/providers is not JSON: ${HOWTO}`);
  }
  const object = said !== null && typeof said === "object" && !Array.isArray(said);
  const unknown = object ? Object.keys(said).filter((name) => !KNOWN.includes(name)) : [];
  if (!object || unknown.length) {
    throw new NotConfigured(`the secret claude-code-router/providers may say ${KNOWN.join(", ")}, nothing else: ${HOWTO}`);
  }
  const providers = Array.isArray(said.Providers) ? said.Providers : [];
  if (!providers.length) {
    throw new NotConfigured(`no model provider is configured: ${HOWTO}, claude-code-router/providers`);
  }
  const variables = { RAVE_ROUTER_API_KEY: apiKey };
  const named = providers.map((provider, index) => {
    const variable = `RAVE_ROUTER_PROVIDER_${index}`;
    variables[variable] = String((provider && provider.api_key) || "");
    return { ...provider, api_key: `$${variable}` };
  });
  return {
    variables,
    config: {
      ...said,
      Providers: named,
      APIKEY: "$RAVE_ROUTER_API_KEY",
      HOST: "127.0.0.1",
      PORT: port,
      LOG: false,
      NON_INTERACTIVE_MODE: true,
    },
  };
}

/** Whatever listens from now on listens on the socket that was handed over, and this process ends when it is idle. */
function listenOnWhatIsHanded() {
  const listen = net.Server.prototype.listen;
  let open = 0;
  let since = Date.now();
  net.Server.prototype.listen = function (...words) {
    const done = words[words.length - 1];
    this.on("connection", (connection) => {
      open += 1;
      connection.once("close", () => {
        open -= 1;
        since = Date.now();
      });
    });
    return listen.call(this, { fd: HANDED }, typeof done === "function" ? done : undefined);
  };
  // What is not accepted yet stays in the socket, and systemd starts the next of this.
  setInterval(() => {
    if (open === 0 && Date.now() - since > IDLE_MS) process.exit(0);
  }, LOOK_MS).unref();
}

function turnDown(reason) {
  console.log(reason);
  const body = JSON.stringify({ type: "error", error: { type: "api_error", message: reason } });
  http
    .createServer((request, response) => {
      request.resume();
      response.writeHead(503, { "content-type": "application/json", connection: "close" });
      response.end(body);
    })
    .listen();
}

function main() {
  const [cli] = process.argv.slice(2);
  listenOnWhatIsHanded();
  let found;
  try {
    found = settings(credential("providers"), credential("api-key"), Number(process.env.PORT));
  } catch (error) {
    if (!(error instanceof NotConfigured)) throw error;
    process.on("SIGTERM", () => process.exit(0));
    return turnDown(error.message);
  }
  const place = path.join(process.env.HOME, ".claude-code-router");
  fs.mkdirSync(place, { recursive: true, mode: 0o700 });
  fs.writeFileSync(path.join(place, "config.json"), JSON.stringify(found.config), { mode: 0o600 });
  Object.assign(process.env, found.variables);
  process.argv = [process.argv[0], cli, "start"];
  require(cli);
}

main();
