"use strict";
// The voxel inspector: data and fit of the peaks, drawn from the numbers in this page.
(() => {
  const element = (name) => document.getElementById(`inspector-${name}`);
  const peakButtons = document.querySelectorAll("button.peak");
  for (const button of peakButtons) {
    button.addEventListener("click", () => {
      const detail = { mm: button.dataset.mm.split(",").map(Number), fit: button.dataset.fit, map: button.dataset.map };
      document.dispatchEvent(new CustomEvent("blmm-peak", { detail }));
      (document.getElementById("inspector") ?? document.getElementById("viewer"))?.scrollIntoView();
    });
  }
  if (!document.getElementById("inspector")) return;
  const fits = JSON.parse(element("data").textContent);
  // What can be on the x axis: the columns of the design that vary, then those of the table.
  for (const each of fits) {
    const own = each.names.map((name, index) => [name, each.X[index]]);
    const varying = own.filter(([, values]) => values.some((value) => value !== values[0]));
    each.columns = { ...Object.fromEntries(varying), ...each.columns };
  }
  const reach = Number(element("data").dataset.reach);
  // As wide as there is room, so that letters stay readable on a small screen.
  let width = 640, height = 400;
  const left = 62, right = 14, top = 12, bottom = 46;
  // Okabe and Ito's colours, which the colour-blind can tell apart, then turns of the hue.
  const palette = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a900", "#7f7f7f"];
  const colour = (index, count) => (count <= palette.length ? palette[index] : `hsl(${(index * 137.5) % 360} 62% 52%)`);
  const fit = () => fits[Number(element("fit").value)];
  const fill = (select, texts) => select.replaceChildren(...texts.map((text, index) => new Option(text, String(index))));
  const shape = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const nice = (value) => (value !== null && Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "n/a");

  function ticks(low, high) {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value);
    return found;
  }

  function scale(values, from, to) {
    const finite = values.filter((value) => value !== null && Number.isFinite(value));
    let low = Math.min(...finite), high = Math.max(...finite);
    if (!(high > low)) { low -= 0.5; high += 0.5; }
    const margin = 0.05 * (high - low);
    low -= margin; high += margin;
    const place = (value) => from + ((value - low) / (high - low)) * (to - from);
    return { low, high, place };
  }

  // Line of the fixed effects along one column, the others at their means; null where it is no straight line.
  function fixedLine(model, voxel, name) {
    const column = model.names.indexOf(name);
    if (column < 0 || !model.plain[column] || voxel.beta[column] === null) return null;
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const level = model.names.reduce((sum, _, each) => (each === column ? sum : sum + voxel.beta[each] * mean(model.X[each])), 0);
    return (x) => level + voxel.beta[column] * x;
  }

  function draw() {
    const model = fit(), voxel = model.voxels[Number(element("voxel").value)];
    const room = element("chart").clientWidth || width;
    width = Math.min(Math.max(room, 280), 760);
    height = Math.round(Math.max(width * 0.62, 260));
    element("chart").setAttribute("viewBox", `0 0 ${width} ${height}`);
    const name = element("x").selectedOptions[0].textContent, values = model.columns[name];
    const factorName = element("colour").selectedOptions[0].textContent, factor = model.factors[factorName];
    const rows = values.map((_, row) => row).filter((row) => values[row] !== null && voxel.y[row] !== null);
    const x = scale(rows.map((row) => values[row]), left, width - right);
    const y = scale(rows.flatMap((row) => [voxel.y[row], voxel.fitted[row]]), height - bottom, top);
    const chart = element("chart");
    chart.replaceChildren();
    for (const tick of ticks(y.low, y.high)) {
      chart.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y.place(tick), y2: y.place(tick) }));
      chart.append(shape("text", { x: left - 6, y: y.place(tick) + 4, "text-anchor": "end" }, nice(tick)));
    }
    for (const tick of ticks(x.low, x.high)) {
      chart.append(shape("text", { x: x.place(tick), y: height - bottom + 17, "text-anchor": "middle" }, nice(tick)));
    }
    const count = factor ? factor.levels.length : 1;
    const ink = (row) => (factor ? colour(factor.refs[row], count) : palette[0]);
    if (element("lines").checked && factor) {
      for (let level = 0; level < count; level += 1) {
        const own = rows.filter((row) => factor.refs[row] === level && voxel.fitted[row] !== null);
        own.sort((a, b) => values[a] - values[b]);
        if (own.length < 2) continue;
        const points = own.map((row) => `${x.place(values[row])},${y.place(voxel.fitted[row])}`).join(" ");
        chart.append(shape("polyline", { class: "level", points, stroke: colour(level, count) }));
      }
    }
    for (const row of rows) {
      const dot = shape("circle", { class: "value", cx: x.place(values[row]), cy: y.place(voxel.y[row]), r: rows.length > 400 ? 2.2 : 3.6, fill: ink(row) });
      const level = factor ? `, ${factorName} ${factor.levels[factor.refs[row]]}` : "";
      dot.append(shape("title", {}, `${model.images[row]}${level}: ${nice(voxel.y[row])}, fitted ${nice(voxel.fitted[row])}`));
      chart.append(dot);
    }
    const line = fixedLine(model, voxel, name);
    if (line) {
      chart.append(shape("line", { class: "fixed", x1: x.place(x.low), x2: x.place(x.high), y1: y.place(line(x.low)), y2: y.place(line(x.high)) }));
    }
    chart.append(shape("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
    chart.append(shape("text", { class: "label", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, name));
    chart.append(shape("text", { class: "label", transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "value of the image"));
    legend(factor, count, Boolean(line));
    numbers(model, voxel, rows.length);
  }

  function legend(factor, count, hasLine) {
    const parts = [];
    if (factor && count <= 12) {
      factor.levels.forEach((level, index) => {
        const item = document.createElement("span"), swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.background = colour(index, count);
        item.append(swatch, level);
        parts.push(item);
      });
    }
    const words = document.createElement("span");
    words.textContent = (hasLine ? "Thick: fixed effects, the other columns at their means. " : "") +
      (factor && element("lines").checked ? "Thin: fixed and random effects of the images of a level." : "");
    parts.push(words);
    element("legend").replaceChildren(...parts);
  }

  function numbers(model, voxel, count) {
    const table = document.createElement("table"), body = table.createTBody();
    const add = (label, value) => {
      const row = body.insertRow(), heading = document.createElement("th");
      heading.scope = "row";
      heading.textContent = label;
      row.append(heading);
      const cell = row.insertCell();
      cell.className = "number";
      cell.textContent = value;
    };
    table.createCaption().textContent = `${count} images. ${model.statuses[voxel.status]}`;
    add("Position, mm", voxel.mm.map(nice).join(", "));
    add("Voxel", voxel.ijk.join(", "));
    model.names.forEach((name, index) => add(`β ${name}`, nice(voxel.beta[index])));
    // A variance estimated as zero is zero to about nine digits.
    const clean = (value) => (value !== null && Math.abs(value) < 1e-6 * voxel.sigma ? 0 : value);
    model.varcorr.forEach((name, index) => add(name, nice(clean(voxel.varcorr[index]))));
    add("Residual SD", nice(voxel.sigma));
    element("numbers").replaceChildren(table);
  }

  function refill() {
    const model = fit();
    fill(element("voxel"), model.voxels.map((voxel) => `${voxel.mm.map(nice).join(", ")} mm`));
    fill(element("x"), Object.keys(model.columns));
    fill(element("colour"), Object.keys(model.factors));
    draw();
  }

  fill(element("fit"), fits.map((each, index) => each.title || `Fit ${index + 1}`));
  element("fit").addEventListener("change", refill);
  for (const name of ["voxel", "x", "colour", "lines"]) element(name).addEventListener("change", draw);
  let drawnFor = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === drawnFor) return;
    drawnFor = innerWidth;
    draw();
  });

  // The kept voxel that is nearest to a place, if it is near enough.
  function choose(detail, farthest) {
    const wanted = fits.findIndex((each) => each.title === detail.fit);
    if (wanted < 0) return;
    const model = fits[wanted];
    const distances = model.voxels.map((voxel) => Math.hypot(...voxel.mm.map((value, axis) => value - detail.mm[axis])));
    const index = distances.indexOf(Math.min(...distances));
    if (distances[index] > farthest) return;
    if (Number(element("fit").value) !== wanted) {
      element("fit").value = String(wanted);
      refill();
    }
    if (Number(element("voxel").value) === index) return;
    element("voxel").value = String(index);
    draw();
  }

  // A peak whose data were not kept stays in the viewer.
  document.addEventListener("blmm-peak", (event) => choose(event.detail, 0.1));
  document.addEventListener("blmm-place", (event) => choose(event.detail, reach));
  refill();
})();
