"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const COLOURS = {
    checkpoint: ["#3f72e8", "#d9573c", "#1f9d74", "#9558c7", "#c2457f"],
    folder: ["#3f72e8"],
    yardstick: ["#8d94a1", "#c8922e", "#5a9fa8", "#a9846b"],
  };
  const PAGE = 100;

  // Small makers. Names of files are data, so text is only ever set as text.
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") node.textContent = value;
      else if (key === "style") node.style.cssText = value;
      else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };
  const draw = (tag, attributes = {}, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    return node;
  };
  const show = (metric, value) => (value === null || value === undefined ? "–" : value.toFixed(metric.digits));
  const arrow = (metric) => (metric.better === "higher" ? "↑" : "↓");

  const seen = {};
  data.candidates.forEach((candidate) => {
    const palette = COLOURS[candidate.kind];
    candidate.colour = palette[(seen[candidate.kind] = (seen[candidate.kind] ?? -1) + 1) % palette.length];
  });
  const own = data.candidates[0];
  const perPicture = data.metrics.filter((metric) => metric.scope === "picture");

  // Header and theme.
  $("title").textContent = data.title;
  $("subtitle").textContent = data.subtitle;
  $("version").textContent = data.version;
  const root = document.documentElement;
  root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  $("theme").addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  });

  // Key figures: the first candidate beside the others.
  data.metrics.slice(0, 4).forEach((metric) => {
    const values = data.candidates.map((candidate) => candidate.means[metric.name]);
    const known = values.filter((value) => value !== null && value !== undefined);
    // A picture kept exactly has the bound of PSNR; its bar would flatten all others.
    const largest = Math.max(...known, 1e-12);
    const card = make("article", { class: "card" },
      make("h3", { text: metric.label }, make("span", { text: arrow(metric), title: `${metric.better} is better` })),
      make("p", { class: "figure", text: show(metric, own.means[metric.name]) }, make("small", { text: metric.unit })));
    data.candidates.forEach((candidate, i) => {
      const width = values[i] === null || values[i] === undefined ? 0 : Math.max(0, (100 * values[i]) / largest);
      card.append(make("div", { class: "bar" + (i ? "" : " own") },
        make("span", { text: candidate.name, title: candidate.name }),
        make("i", { style: `width:${width}%;background:${candidate.colour}` }),
        make("span", { text: show(metric, values[i]) })));
    });
    $("cards").append(card);
  });

  // The table.
  const best = Object.fromEntries(data.metrics.map((metric) => {
    const known = data.candidates.map((candidate) => candidate.means[metric.name]).filter((v) => v !== null && v !== undefined);
    return [metric.name, metric.better === "higher" ? Math.max(...known) : Math.min(...known)];
  }));
  const head = make("tr", {}, make("th", { scope: "col", text: "" }));
  data.metrics.forEach((metric) => head.append(make("th", { scope: "col", text: `${metric.label} ${arrow(metric)}`, title: metric.implementation })));
  const body = make("tbody");
  data.candidates.forEach((candidate) => {
    const row = make("tr", {}, make("th", { scope: "row" },
      make("i", { class: "swatch", style: `background:${candidate.colour}` }), candidate.name + " ", make("span", { class: "kind", text: candidate.kind })));
    data.metrics.forEach((metric) => {
      const value = candidate.means[metric.name];
      row.append(make("td", { class: value === best[metric.name] && data.candidates.length > 1 ? "best" : "", text: show(metric, value) }));
    });
    body.append(row);
  });
  $("results").append(make("thead", {}, head), body);
  $("results-note").textContent = data.note;
  const conditions = (title, entries) => {
    const list = make("dl");
    Object.entries(entries).forEach(([key, value]) => list.append(make("dt", { text: key.replaceAll("_", " ") }), make("dd", { text: String(value) })));
    $("conditions-body").append(make("div", {}, make("h3", { text: title }), list));
  };
  conditions("All", data.conditions);
  conditions("Metrics", Object.fromEntries(data.metrics.map((metric) => [metric.name, metric.implementation])));
  data.candidates.forEach((candidate) => conditions(candidate.name, candidate.conditions));

  // The list of pictures, worst first by the first metric.
  const rows = data.rows.names.map((name, i) => ({ i, name }));
  let order = { key: perPicture.length ? perPicture[0].name : "name", down: false };
  if (perPicture.length) order.down = perPicture[0].better === "lower";
  let shown = PAGE;
  let selected = -1;
  const value = (row, key) => (key === "name" ? row.name : data.rows.values[own.name][key][row.i]);
  const sorted = () => {
    const sign = order.down ? -1 : 1;
    return [...rows].sort((a, b) => {
      const x = value(a, order.key), y = value(b, order.key);
      return sign * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y) || a.i - b.i;
    });
  };
  const header = make("tr");
  [{ name: "name", label: "Picture" }, ...perPicture].forEach((metric) => {
    const button = make("button", { type: "button", text: metric.label, "data-key": metric.name });
    button.addEventListener("click", () => {
      order = { key: metric.name, down: order.key === metric.name ? !order.down : metric.better === "lower" };
      list();
    });
    header.append(make("th", { scope: "col" }, button));
  });
  document.querySelector("#images thead").append(header);

  const list = () => {
    for (const cell of header.children) {
      cell.removeAttribute("aria-sort");
      if (cell.firstChild.dataset.key === order.key) cell.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    }
    const bodyRows = sorted().slice(0, shown).map((row) => {
      const picture = data.pictures[row.i];
      const line = make("tr", { "data-row": row.i, class: picture ? "embedded" : "", "aria-selected": row.i === selected });
      const thumb = picture ? make("img", { class: "thumb", src: picture.input, alt: "", loading: "lazy" }) : make("span", { class: "thumb" });
      line.append(make("td", {}, make("div", { class: "name" }, thumb, make("span", { text: row.name, title: row.name }))));
      perPicture.forEach((metric) => line.append(make("td", { text: show(metric, value(row, metric.name)) })));
      if (picture) {
        line.tabIndex = 0;
        line.addEventListener("click", () => open(row.i));
        line.addEventListener("keydown", (event) => { if (event.key === "Enter") open(row.i); });
      }
      return line;
    });
    document.querySelector("#images tbody").replaceChildren(...bodyRows);
    $("more").hidden = shown >= rows.length;
    $("more").textContent = `Show ${Math.min(PAGE, rows.length - shown)} more of ${rows.length}`;
  };
  $("more").addEventListener("click", () => { shown += PAGE; list(); });

  // The viewer.
  const stage = $("stage");
  // Of the frame that is shown, and of all frames of the clip; a picture is a clip of one frame.
  const pixels = { input: null, output: null };
  let clip = { input: [], output: [] };
  let frame = 0;
  let playing = true;
  const FRAMES_A_SECOND = 12;
  let candidate = own.name;
  let mode = "wipe";
  let lens = { x: 0.5, y: 0.5, held: false };

  const load = (source) => new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("picture cannot be decoded"));
    image.src = source;
  });
  // The frames of a clip lie in one picture, in rows of as many as make it about square.
  const unroll = (image, picture) => {
    const columns = Math.ceil(Math.sqrt(picture.frames));
    return Array.from({ length: picture.frames }, (_, t) => {
      const canvas = make("canvas", { width: picture.width, height: picture.height });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, -(t % columns) * picture.width, -Math.floor(t / columns) * picture.height);
      const url = picture.frames === 1 ? image.src : canvas.toDataURL();
      return { image: canvas, url, data: context.getImageData(0, 0, canvas.width, canvas.height) };
    });
  };
  const showFrame = (t) => {
    frame = t;
    pixels.input = clip.input[t];
    pixels.output = clip.output[t];
    $("image-left").src = pixels.input.url;
    $("image-right").src = pixels.output.url;
    $("frame").value = t;
    $("frame-value").textContent = `${t + 1} / ${clip.input.length}`;
    difference();
    zoomed();
  };
  const play = (on) => {
    playing = on;
    $("play").textContent = on ? "Pause" : "Play";
    $("play").setAttribute("aria-pressed", on);
  };
  setInterval(() => {
    if (playing && clip.input.length > 1 && !document.hidden) showFrame((frame + 1) % clip.input.length);
  }, 1000 / FRAMES_A_SECOND);
  $("play").addEventListener("click", () => play(!playing));
  $("frame").addEventListener("input", () => { play(false); showFrame(Number($("frame").value)); });
  const difference = () => {
    const gain = Number($("gain").value);
    const { input, output } = pixels;
    const out = new ImageData(input.data.width, input.data.height);
    for (let i = 0; i < out.data.length; i += 4) {
      for (let c = 0; c < 3; c++) out.data[i + c] = gain * Math.abs(input.data.data[i + c] - output.data.data[i + c]);
      out.data[i + 3] = 255;
    }
    const canvas = $("difference");
    canvas.width = out.width;
    canvas.height = out.height;
    canvas.getContext("2d").putImageData(out, 0, 0);
  };
  const zoomed = () => {
    if (!pixels.input) return;
    const zoom = Number($("zoom").value);
    const { width, height } = pixels.input.data;
    const size = 192 / zoom;
    const left = Math.max(0, Math.min(width - size, lens.x * width - size / 2));
    const top = Math.max(0, Math.min(height - size, lens.y * height - size / 2));
    for (const [id, source] of [["lens-input", pixels.input.image], ["lens-output", pixels.output.image], ["lens-difference", $("difference")]]) {
      const context = $(id).getContext("2d");
      context.imageSmoothingEnabled = false;
      context.clearRect(0, 0, 192, 192);
      context.drawImage(source, left, top, size, size, 0, 0, 192, 192);
    }
    Object.assign($("target").style, {
      display: mode === "side" ? "none" : "block",
      left: `${(100 * left) / width}%`, top: `${(100 * top) / height}%`,
      width: `${(100 * size) / width}%`, height: `${(100 * size) / height}%`,
    });
  };
  const refresh = async () => {
    const picture = data.pictures[selected];
    const [input, output] = await Promise.all([load(picture.input), load(picture.outputs[candidate])]);
    if (data.pictures[selected] !== picture) return;
    clip = { input: unroll(input, picture), output: unroll(output, picture) };
    $("player").hidden = picture.frames === 1;
    $("frame").max = picture.frames - 1;
    $("label-right").textContent = candidate;
    $("lens-label").textContent = candidate;
    // Portraits must not push the lens off the screen.
    stage.style.maxWidth = mode === "side" ? "" : `${Math.max(220, (560 * picture.width) / picture.height)}px`;
    showFrame(Math.min(frame, picture.frames - 1));
    $("picture-values").replaceChildren(...perPicture.map((metric) =>
      make("span", { text: `${metric.label} ` }, make("b", { text: show(metric, data.rows.values[candidate][metric.name][selected]) }), ` ${metric.unit}`)));
    stage.dataset.ready = `${selected}:${candidate}:${mode}`;
  };
  const open = (index) => {
    selected = index;
    const picture = data.pictures[index];
    $("viewer").hidden = false;
    $("picture-name").textContent = data.rows.names[index];
    $("picture-note").textContent = picture.note;
    list();
    return refresh();
  };
  const step = (by) => {
    const embedded = sorted().filter((row) => data.pictures[row.i]);
    if (!embedded.length) return;
    const at = embedded.findIndex((row) => row.i === selected);
    open(embedded[(at + by + embedded.length) % embedded.length].i);
  };
  const choose = (group, key, chosen) => {
    for (const button of $(group).children) button.setAttribute("aria-checked", button.dataset[key] === chosen);
  };
  data.candidates.forEach((one) => {
    const button = make("button", { type: "button", role: "radio", "data-candidate": one.name, "aria-checked": one === own, text: one.name });
    button.addEventListener("click", () => { candidate = one.name; choose("candidates", "candidate", candidate); refresh(); });
    $("candidates").append(button);
  });
  for (const button of $("modes").children) {
    button.addEventListener("click", () => {
      mode = button.dataset.mode;
      stage.dataset.mode = mode;
      choose("modes", "mode", mode);
      refresh();
    });
  }
  $("wipe").addEventListener("input", () => stage.style.setProperty("--at", `${$("wipe").value}%`));
  $("zoom").addEventListener("input", () => { $("zoom-value").textContent = `${$("zoom").value}×`; zoomed(); });
  $("gain").addEventListener("input", () => {
    $("gain-value").textContent = $("gain").value;
    $("gain-output").textContent = `${$("gain").value}×`;
    difference();
    zoomed();
  });
  const point = (event) => {
    // Side by side, each picture has a box of its own.
    const area = mode === "side" ? event.target.closest("figure") : stage;
    if (!area) return;
    const box = area.getBoundingClientRect();
    lens.x = (event.clientX - box.left) / box.width;
    lens.y = (event.clientY - box.top) / box.height;
    zoomed();
  };
  stage.addEventListener("pointermove", (event) => { if (!lens.held && !event.buttons) point(event); });
  stage.addEventListener("click", (event) => { lens.held = !lens.held; point(event); });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });

  // Histograms: the first candidate filled, the others as outlines, on one scale.
  const nice = (span, count) => {
    const rough = span / count, power = 10 ** Math.floor(Math.log10(rough));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  };
  const ticks = (low, high, count) => {
    const by = nice(high - low, count), out = [];
    for (let tick = Math.ceil(low / by) * by; tick <= high + by * 1e-6; tick += by) out.push(tick);
    return { out, digits: Math.max(0, -Math.floor(Math.log10(by) + 1e-9)) };
  };
  const histogram = (metric) => {
    const all = data.candidates.flatMap((one) => data.rows.values[one.name][metric.name]).filter((v) => v !== null);
    if (!all.length) return null;
    let low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
    if (high - low < 1e-9) { low -= 0.5; high += 0.5; }
    const bins = Math.max(8, Math.min(40, Math.round(2 * Math.sqrt(rows.length))));
    const counts = data.candidates.map((one) => {
      const count = new Array(bins).fill(0);
      data.rows.values[one.name][metric.name].forEach((v) => { if (v !== null) count[Math.min(bins - 1, Math.floor(((v - low) / (high - low)) * bins))]++; });
      return count;
    });
    const W = 520, H = 210, bottom = 28, tallest = Math.max(...counts.flat());
    const x = (i) => 8 + ((W - 16) * i) / bins, y = (n) => H - bottom - ((H - bottom - 10) * n) / tallest;
    const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Histogram of ${metric.label}` });
    svg.append(draw("line", { class: "axis", x1: 8, x2: W - 8, y1: H - bottom, y2: H - bottom }));
    const marks = ticks(low, high, 6);
    marks.out.forEach((tick) => svg.append(draw("text", { x: 8 + ((W - 16) * (tick - low)) / (high - low), y: H - 6, "text-anchor": "middle" }, tick.toFixed(marks.digits))));
    [...data.candidates.keys()].reverse().forEach((c) => {
      const { colour, name } = data.candidates[c];
      let path = `M${x(0)},${y(0)}`;
      counts[c].forEach((n, i) => { path += `V${y(n)}H${x(i + 1)}`; });
      path += `V${y(0)}`;
      const line = draw("path", { d: path, stroke: colour, fill: c ? "none" : colour, "fill-opacity": 0.28, "stroke-width": c ? 1.3 : 1.6, "data-candidate": name });
      line.append(draw("title", {}, `${name}: mean ${show(metric, data.candidates[c].means[metric.name])}`));
      svg.append(line);
    });
    return make("article", { class: "plot", "data-metric": metric.name },
      make("h3", { text: `${metric.label} ` }, make("span", { text: `${metric.unit}${metric.unit ? ", " : ""}${rows.length} pictures` })), svg);
  };
  data.candidates.forEach((one) => $("legend").append(make("span", {}, make("i", { class: "swatch", style: `background:${one.colour}` }), one.name)));
  perPicture.map(histogram).filter(Boolean).forEach((plot) => $("histograms").append(plot));
  $("distributions").hidden = !perPicture.length;

  // Latent channels.
  data.latents.forEach(({ name, mean, std }) => {
    const colour = data.candidates.find((one) => one.name === name).colour;
    const reach = Math.max(1.2, ...mean.map((m, i) => Math.abs(m) + std[i])) * 1.06;
    const W = 1100, H = 230, left = 40, bottom = 22;
    const x = (i) => left + ((W - left - 10) * (i + 0.5)) / mean.length;
    const y = (v) => (H - bottom) / 2 - (v / reach) * ((H - bottom) / 2 - 6);
    const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Latent channels of ${name}` });
    [-1, 0, 1].forEach((v) => {
      svg.append(draw("line", { class: v ? "guide" : "axis", x1: left, x2: W - 10, y1: y(v), y2: y(v) }));
      svg.append(draw("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, v > 0 ? "+1" : String(v)));
    });
    const width = Math.min(26, ((W - left) / mean.length) * 0.56);
    const every = Math.ceil(mean.length / 32);
    mean.forEach((m, i) => {
      const bar = draw("rect", { class: "channel", x: x(i) - width / 2, y: y(m + std[i]), width, height: Math.max(1, y(m - std[i]) - y(m + std[i])), rx: Math.min(4, width / 3), fill: colour, "fill-opacity": 0.3 });
      bar.append(draw("title", {}, `channel ${i}: mean ${m.toFixed(3)}, standard deviation ${std[i].toFixed(3)}`));
      svg.append(bar, draw("circle", { cx: x(i), cy: y(m), r: Math.min(4, width / 3), fill: colour }));
      if (i % every === 0) svg.append(draw("text", { x: x(i), y: H - 5, "text-anchor": "middle" }, String(i)));
    });
    $("channels").append(make("article", { class: "plot" }, make("h3", { text: `${name} ` }, make("span", { text: `${mean.length} channels` })), svg));
  });
  $("latents").hidden = !data.latents.length;

  list();
  const first = sorted().find((row) => data.pictures[row.i]);
  if (first) open(first.i);
  $("pictures").hidden = !rows.length;
  root.dataset.ready = "true";
})();
