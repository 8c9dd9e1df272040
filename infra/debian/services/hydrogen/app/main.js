// Hydrogen as a page of its own. Which homeserver it is for, nginx says in config.json.
import { FeatureSet, Platform, RootViewModel, createNavigation, createRouter } from "hydrogen-view-sdk";

async function show(container) {
  const platform = new Platform({
    container,
    configURL: "config.json",
    assetPaths: {
      downloadSandbox: "assets/download-sandbox.html",
      // It is what shows the session's token for pictures and files.
      serviceWorker: "sw.js",
      olm: { wasm: "assets/olm.wasm", wasmBundle: "assets/olm.js" },
    },
  });
  await platform.init();
  const navigation = createNavigation();
  platform.setNavigation(navigation);
  const urlRouter = createRouter({ navigation, history: platform.history });
  urlRouter.attach();
  const features = await FeatureSet.load(platform.settingsStorage);
  const page = new RootViewModel({ platform, urlRouter, navigation, features });
  await page.load();
  platform.createAndMountRootView(page);
}

show(document.getElementById("hydrogen"));
