"use strict";
// The volume viewer: NiiVue, unpacked from this page when its section comes into view.
(() => {
  const section = document.getElementById("viewer");
  if (!section) return;
  const element = (name) => document.getElementById(`viewer-${name}`);
  const volumes = JSON.parse(element("data").textContent);
  const maps = volumes.filter((volume) => volume.kind !== "background");
  const place = element("place");
  let viewer = null;
  let starting = null;

  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const unpacked = (text) =>
    new Response(new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip")));

  const select = element("map");
  const groups = new Map();
  maps.forEach((map, index) => {
    const option = new Option(map.name, String(index));
    if (!map.group) { select.append(option); return; }
    if (!groups.has(map.group)) {
      const group = document.createElement("optgroup");
      group.label = map.group;
      groups.set(map.group, group);
      select.append(group);
    }
    groups.get(map.group).append(option);
  });
  const chosen = () => maps[Number(select.value)];

  async function start() {
    const script = document.createElement("script");
    script.textContent = await unpacked(element("program").textContent.trim()).text();
    document.head.append(script);
    const made = new window.niivue.Niivue({
      backColor: [0, 0, 0, 1], isColorbar: true, crosshairColor: [0.45, 0.75, 1, 0.9],
      crosshairWidth: 1, crosshairWidthUnit: "mm", multiplanarShowRender: 1, multiplanarLayout: 2, dragAndDropEnabled: false,
      loadingText: "", logLevel: "silent",
    });
    await made.attachToCanvas(element("canvas"));
    made.onLocationChange = (where) => {
      const [x, y, z] = [...where.mm].slice(0, 3).map((value) => Math.round(value * 10) / 10);
      const value = where.values[where.values.length - 1]?.value;
      const text = Number.isFinite(value) ? value.toPrecision(3) : "outside of the map";
      place.textContent = `x ${x}, y ${y}, z ${z} mm: ${chosen().name} ${text}`;
      document.dispatchEvent(new CustomEvent("blmm-place", { detail: { mm: [x, y, z], fit: chosen().group } }));
    };
    viewer = made;
    await show();
  }

  async function load(volume) {
    const buffer = await unpacked(volume.data).arrayBuffer();
    await viewer.loadFromArrayBuffer(buffer, `${volume.kind}.nii`);
  }

  function applyColours() {
    const map = chosen();
    const overlay = viewer.volumes[viewer.volumes.length - 1];
    // Colours first: setting them sets the range anew.
    overlay.colormap = map.kind === "amount" ? "viridis" : "warm";
    overlay.colormapNegative = map.kind === "statistic" ? "winter" : "";
    overlay.cal_min = Math.max(Number(element("threshold").value), map.high / 1000);
    overlay.cal_max = Math.max(Number(element("high").value), overlay.cal_min * 1.001);
    overlay.opacity = Number(element("opacity").value);
    viewer.updateGLVolume();
  }

  async function show() {
    const map = chosen();
    const background = volumes.find((volume) => volume.kind === "background" && volume.group === map.group);
    element("threshold").value = String(Math.round(map.threshold * 100) / 100);
    element("high").value = String(Math.round(map.high * 100) / 100);
    for (const volume of [...viewer.volumes]) viewer.removeVolume(volume);
    if (background) {
      await load(background);
      viewer.volumes[0].colorbarVisible = false;
    }
    await load(map);
    applyColours();
    viewer.setSliceType(Number(element("layout").value));
    section.dataset.shown = map.name;
    place.textContent = `${map.name}. Click, or use the arrow keys of the focused picture, to move the crosshair.`;
  }

  const started = () => {
    starting ??= start().catch((error) => {
      place.textContent = `This browser cannot show volumes (${error.message}): it needs WebGL 2.`;
      section.dataset.failed = error.message;
    });
    return starting;
  };

  select.addEventListener("change", () => started().then(() => viewer && show()));
  for (const name of ["threshold", "high", "opacity"]) {
    element(name).addEventListener("input", () => viewer && applyColours());
  }
  element("layout").addEventListener("change", () => viewer && viewer.setSliceType(Number(element("layout").value)));
  element("canvas").addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
      PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
    if (!viewer || !steps[event.key]) return;
    event.preventDefault();
    viewer.moveCrosshairInVox(...steps[event.key]);
  });
  new IntersectionObserver((entries, watcher) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    started();
  }, { rootMargin: "200px" }).observe(section);

  document.addEventListener("blmm-peak", async (event) => {
    const { mm, fit, map } = event.detail;
    const index = maps.findIndex((each) => each.name === map && each.group === fit);
    await started();
    if (!viewer) return;
    if (index >= 0 && Number(select.value) !== index) {
      select.value = String(index);
      await show();
    }
    viewer.scene.crosshairPos = viewer.mm2frac(mm);
    viewer.createOnLocationChange();
    viewer.drawScene();
  });
})();
