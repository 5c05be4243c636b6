// Draws the charts that the page carries as JSON, with plotly.js, in the page's colours.

const NARROW = 640;
const ROW = 26;
const PAPER = 690; // what fits on a printed page

let charts = {}; // by the id of the element that holds each
const drawn = new Set();

/** A colour of the page by its name. */
const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Text with nothing in it that plotly reads as markup. */
const plainText = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** The marks of a series, as plotly wants them. */
const markerOf = (series, size) => ({
  symbol: series.style.mark + (series.hollow ? "-open" : ""),
  size,
  color: colour(series.style.colour),
});

const share = (value) => value.toLocaleString("en", { maximumFractionDigits: 1 });

/** Error bars from ends. */
function bars(values, ends, shade) {
  if (!ends.length) return undefined;
  return {
    type: "data",
    symmetric: false,
    array: ends.map(([, high], i) => high - values[i]),
    arrayminus: ends.map(([low], i) => values[i] - low),
    color: shade,
    thickness: 1,
    width: 3,
  };
}

/** Where a name stands: up and to the left of the front is nothing, down and to the right little. */
function labelSide(part, front) {
  if (front) return part > 0.12 ? "top left" : "top right";
  return part > 0.8 ? "bottom left" : "bottom right";
}

/** What lies below the points: the shaded area, and the front as steps. */
function backgroundTraces(panel, right) {
  const traces = [];
  if (panel.area) {
    const quiet = { x: panel.area.x, mode: "lines", line: { width: 0 }, hoverinfo: "skip" };
    traces.push(
      { ...quiet, y: panel.area.low, showlegend: false },
      { ...quiet, y: panel.area.high, fill: "tonexty", fillcolor: colour("shade"), name: panel.area.name },
    );
  }
  if (panel.series.length > 1 && panel.front.length) {
    traces.push({
      x: [...panel.front.map(([x]) => x), right],
      y: [...panel.front.map(([, y]) => y), panel.front.at(-1)[1]],
      mode: "lines",
      line: { shape: "hv", dash: "dash", width: 1.5, color: colour("muted") },
      hoverinfo: "skip",
      name: "front",
    });
  }
  return traces;
}

function pointTraces(chart) {
  return chart.panels.flatMap((panel, place) => {
    const right = Math.max(...panel.series.map((s) => (s.x_ends.length ? s.x_ends[0][1] : s.x[0])));
    const front = new Set(panel.front.map(([x, y]) => `${x} ${y}`));
    const traces = panel.series.map((series) => ({
      x: series.x,
      y: series.y,
      error_x: bars(series.x, series.x_ends, colour("muted")),
      error_y: bars(series.y, series.y_ends, colour("muted")),
      mode: series.label ? "markers+text" : "markers",
      text: [plainText(series.label)],
      textposition: labelSide(series.x[0] / right, front.has(`${series.x[0]} ${series.y[0]}`)),
      textfont: { size: 12 },
      marker: {
        ...markerOf(series, 11),
        line: { width: series.hollow ? 2 : 0, color: colour(series.style.colour) },
      },
      hovertemplate: hover(series.title, (series.notes[0] ?? "").replaceAll("; ", "<br>")),
      name: plainText(series.title),
      showlegend: false,
    }));
    return [...backgroundTraces(panel, right), ...traces].map((t) => ({ ...t, ...axesOf(place) }));
  });
}

/** What a reader sees who points at a mark. */
const hover = (title, text) => `<b>${plainText(title)}</b>${text && `<br>${text}`}<extra></extra>`;

function lineTraces(chart) {
  const named = new Set();
  const isNew = (name) => !named.has(name) && Boolean(named.add(name));
  return chart.panels.flatMap((panel, place) =>
    panel.series.map((series, i) => {
      const line = colour(series.style.colour);
      const apart = panel.categories.length ? Math.min(0.04, 0.4 / panel.series.length) : 0;
      const aside = apart * (i - (panel.series.length - 1) / 2);
      return {
        x: series.x.map((x) => x + aside),
        y: series.y,
        error_y: bars(series.y, series.y_ends, line),
        text: series.x.map((x) => panel.categories[x] ?? x.toLocaleString("en")),
        customdata: series.notes,
        mode: series.joined ? "lines+markers" : "markers",
        line: { color: line, width: 1.6, dash: series.style.dash, shape: series.stepped ? "hv" : "linear" },
        marker: markerOf(series, series.joined ? 7 : 9),
        hovertemplate: hover(series.title, `%{text}: %{y:,.1f}${series.notes.length ? "<br>%{customdata}" : ""}`),
        name: plainText(series.title),
        legendgroup: series.name,
        showlegend: isNew(series.name),
        visible: series.shown ? true : "legendonly",
        ...axesOf(place),
      };
    }),
  );
}

function rowTraces(chart) {
  return chart.panels.flatMap((panel, place) =>
    panel.series.flatMap((series) => {
      const shared = { y: [plainText(series.title)], orientation: "h", showlegend: false, ...axesOf(place) };
      if (chart.kind === "boxes") return boxTraces(series, shared);
      return {
        ...shared,
        type: "bar",
        x: series.x,
        marker: { color: colour(series.style.colour) },
        text: [share(series.x[0])],
        textposition: "outside",
        cliponaxis: false,
        hovertemplate: `<b>${plainText(series.title)}</b>: %{x:.1f} %<extra></extra>`,
      };
    }),
  );
}

/** A box with its whiskers and median, as lines: the bundle has no boxes of its own. */
function boxTraces(series, shared) {
  const [lowest, first, median, third, highest] = series.x.map((value) => Math.max(value, 1));
  const fill = colour(series.style.colour);
  const line = (ends, width, opacity) => ({
    ...shared,
    x: ends,
    y: [shared.y[0], shared.y[0]],
    mode: "lines",
    line: { color: fill, width },
    opacity,
    hoverinfo: "skip",
  });
  return [
    line([lowest, highest], 1.5, 1),
    line([first, third], 14, 0.35),
    {
      ...shared,
      x: [median],
      mode: "markers",
      marker: { symbol: "line-ns", size: 15, line: { width: 3, color: fill } },
      hovertemplate: hover(series.title, series.notes[0].replaceAll(/[,;] /g, "<br>")),
    },
  ];
}

const axesOf = (place) =>
  place ? { xaxis: `x${place + 1}`, yaxis: `y${place + 1}` } : { xaxis: "x", yaxis: "y" };

/** Where each panel stands: side by side, or one below the other where space is scarce. */
function domains(count, stacked, names) {
  const gap = stacked ? (names ? 0.5 : 0.35) / count : names ? 0.04 : 0.075;
  const size = (1 - gap * (count - 1)) / count;
  return [...Array(count).keys()].map((i) => {
    const from = i * (size + gap);
    const reach = [from, Math.min(from + size, 1)];
    return stacked ? { x: [0, 1], y: [1 - reach[1], 1 - reach[0]] } : { x: reach, y: [0, 1] };
  });
}

function layoutOf(chart, width) {
  const rows = chart.kind === "bars" || chart.kind === "boxes";
  const count = chart.panels.length;
  const stacked = count > 1 && width < NARROW;
  const places = domains(count, stacked, rows);
  const tall = rows ? 90 + ROW * chart.panels[0].series.length : chart.kind === "points" ? 470 : 380;
  const height = stacked ? tall * count * 0.9 : tall;
  const layout = {
    height,
    width,
    margin: { l: 56, r: 16, t: 12, b: 48 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12.5, color: colour("ink") },
    hoverlabel: { bgcolor: colour("paper"), bordercolor: colour("muted"), font: { color: colour("ink") }, align: "left" },
    legend: { orientation: "h", y: -62 / (height - 60), yanchor: "top", x: 0, font: { size: 12 } },
    bargap: 0.35,
  };
  chart.panels.forEach((panel, i) => {
    const line = { gridcolor: colour("grid"), zerolinecolor: colour("grid"), linecolor: colour("muted"), automargin: true };
    const x = { ...line, domain: places[i].x, anchor: `y${i ? i + 1 : ""}`, title: { text: panel.across, standoff: 8 } };
    const y = { ...line, tickformat: ",", domain: places[i].y, anchor: `x${i ? i + 1 : ""}`, title: { text: panel.up, standoff: 6 } };
    if (panel.log) x.type = "log";
    if (panel.ticks.length) {
      Object.assign(x, { tickvals: panel.ticks, ticktext: panel.ticks.map((tick) => tick.toLocaleString("en")) });
    }
    if (panel.categories.length) {
      Object.assign(x, { tickvals: panel.categories.map((_, k) => k), ticktext: panel.categories });
    } else if (!panel.log) {
      x.tickformat = ",~r";
      x.rangemode = panel.x_from_zero ? "tozero" : "normal";
    }
    if (rows) {
      Object.assign(y, { type: "category", autorange: "reversed", showgrid: false });
      if (chart.kind === "bars") x.range = [0, reach(panel) * 1.22];
      if (i && !stacked) y.showticklabels = false;
    } else if (panel.y_from_zero) {
      y.rangemode = "tozero";
    }
    layout[`xaxis${i ? i + 1 : ""}`] = x;
    layout[`yaxis${i ? i + 1 : ""}`] = y;
  });
  return layout;
}

/** The greatest share that a panel of bars shows, at least one percent. */
const reach = (panel) => Math.max(1, ...panel.series.map((series) => series.x[0]));

const TRACES = { points: pointTraces, lines: lineTraces, bars: rowTraces, boxes: rowTraces };
const SETTINGS = {
  displaylogo: false,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};

function draw(holder) {
  if (!holder.clientWidth) return;
  const width = matchMedia("print").matches ? Math.min(holder.clientWidth, PAPER) : holder.clientWidth;
  const chart = charts[holder.id];
  Plotly.react(holder, TRACES[chart.kind](chart), layoutOf(chart, width), SETTINGS);
  holder.classList.add("drawn");
  drawn.add(holder);
}

const drawAll = () => drawn.forEach(draw);

/** Loads the library once the page stands, then draws each chart as it comes near. */
async function startCharts() {
  charts = readJson("charts");
  const script = document.createElement("script");
  script.textContent = await unpack("plotly");
  document.head.append(script);
  const near = new IntersectionObserver(
    (seen) => seen.filter((one) => one.isIntersecting).forEach((one) => drawn.has(one.target) || draw(one.target)),
    { rootMargin: "400px" },
  );
  document.querySelectorAll(".chart").forEach((holder) => near.observe(holder));
  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 120);
  };
  addEventListener("resize", later);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(query).addEventListener("change", drawAll);
  }
  document.documentElement.dataset.charts = "ready";
}
