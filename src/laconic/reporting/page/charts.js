// Draws the charts that the page carries as JSON, with plotly.js, in the page's colours.

const DASHES = ["solid", "dash", "dot", "dashdot"];
const MARKS = { system1: "triangle-up", system2: "square", base: "diamond", merge: "circle" };
const MERGE_MARKS = ["circle", "cross", "star", "hexagon", "triangle-down", "pentagon"];
const NARROW = 640;
const ROW = 26;
const PAPER = 690; // what fits on a printed page

let looks = {}; // by run: its place among the merges
let charts = {}; // by the id of the element that holds each
const drawn = new Set();

/** A colour of the page by its name. */
const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A name that fits a legend, with nothing in it that plotly reads as markup. */
function shortName(name) {
  const fits = name.length <= 30 ? name : `${name.slice(0, 15)}…${name.slice(-14)}`;
  return fits.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** How a run looks in every chart, or one of several other things: never told by colour alone. */
function lookOf(series, otherwise = 0) {
  if (series.role !== "merge") {
    return { colour: colour(series.role), mark: MARKS[series.role], dash: "solid" };
  }
  const place = Object.hasOwn(looks, series.name) ? looks[series.name] : otherwise;
  const round = Math.floor(place / 8);
  return {
    colour: colour(`merge${place % 8}`),
    mark: MERGE_MARKS[place % MERGE_MARKS.length],
    dash: DASHES[round % DASHES.length],
  };
}

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

function frontTraces(chart) {
  const panel = chart.panels[0];
  const traces = [];
  const right = Math.max(...panel.series.map((s) => (s.x_ends.length ? s.x_ends[0][1] : s.x[0])));
  if (chart.band) {
    const quiet = { x: chart.band.length, mode: "lines", line: { width: 0 }, hoverinfo: "skip" };
    const part = (values) => values.map((value) => 100 * value);
    traces.push(
      { ...quiet, y: part(chart.band.low), showlegend: false },
      { ...quiet, y: part(chart.band.high), fill: "tonexty", fillcolor: colour("shade"), name: "where the front may run" },
    );
  }
  if (panel.series.length > 1) {
    traces.push({
      x: [...chart.steps.map(([x]) => x), right],
      y: [...chart.steps.map(([, y]) => y), chart.steps.at(-1)[1]],
      mode: "lines",
      line: { shape: "hv", dash: "dash", width: 1.5, color: colour("muted") },
      hoverinfo: "skip",
      name: "front",
    });
  }
  const onFront = new Set(chart.steps.map(([x, y]) => `${x} ${y}`));
  for (const series of panel.series) {
    const look = lookOf(series);
    const front = onFront.has(`${series.x[0]} ${series.y[0]}`);
    const named = panel.series.length <= 14 || front || series.role !== "merge";
    traces.push({
      x: series.x,
      y: series.y,
      error_x: bars(series.x, series.x_ends, colour("muted")),
      error_y: bars(series.y, series.y_ends, colour("muted")),
      mode: named ? "markers+text" : "markers",
      text: [shortName(series.name)],
      textposition: labelSide(series.x[0] / right, front),
      textfont: { size: 12 },
      marker: {
        symbol: look.mark + (series.hollow ? "-open" : ""),
        size: 11,
        color: look.colour,
        line: { width: series.hollow ? 2 : 0, color: look.colour },
      },
      hovertemplate: `<b>${shortName(series.name)}</b><br>${series.notes[0].replaceAll("; ", "<br>")}<extra></extra>`,
      name: shortName(series.name),
      showlegend: false,
    });
  }
  return traces;
}

function lineTraces(chart) {
  const named = new Set();
  const isNew = (name) => !named.has(name) && Boolean(named.add(name));
  return chart.panels.flatMap((panel, place) =>
    panel.series.map((series, i) => {
      const look = lookOf(series, i);
      const apart = panel.words.length ? Math.min(0.04, 0.4 / panel.series.length) : 0;
      const aside = apart * (i - (panel.series.length - 1) / 2);
      return {
        x: series.x.map((x) => x + aside),
        y: series.y,
        error_y: bars(series.y, series.y_ends, look.colour),
        text: series.x.map((x) => panel.words[x] ?? x.toLocaleString("en")),
        customdata: series.notes,
        mode: series.joined ? "lines+markers" : "markers",
        line: { color: look.colour, width: 1.6, dash: look.dash, shape: series.stepped ? "hv" : "linear" },
        marker: { symbol: look.mark + (series.hollow ? "-open" : ""), size: series.joined ? 7 : 9, color: look.colour },
        hovertemplate: `<b>${shortName(series.name)}</b><br>%{text}: %{y:,.1f}${series.notes.length ? "<br>%{customdata}" : ""}<extra></extra>`,
        name: shortName(series.name),
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
      const look = lookOf(series);
      const name = shortName(series.name);
      const shared = { y: [name], orientation: "h", showlegend: false, ...axesOf(place) };
      if (chart.kind === "boxes") return boxTraces(series, look, shared);
      return {
        ...shared,
        type: "bar",
        x: series.x,
        marker: { color: look.colour },
        text: [share(series.x[0])],
        textposition: "outside",
        cliponaxis: false,
        hovertemplate: `<b>${name}</b>: %{x:.1f} %<extra></extra>`,
      };
    }),
  );
}

/** A box with its whiskers and median, as lines: the bundle has no boxes of its own. */
function boxTraces(series, look, shared) {
  const [lowest, first, median, third, highest] = series.x.map((value) => Math.max(value, 1));
  const line = (ends, width, opacity) => ({
    ...shared,
    x: ends,
    y: [shared.y[0], shared.y[0]],
    mode: "lines",
    line: { color: look.colour, width },
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
      marker: { symbol: "line-ns", size: 15, line: { width: 3, color: look.colour } },
      hovertemplate: `<b>${shared.y[0]}</b><br>${series.notes[0].replaceAll(/[,;] /g, "<br>")}<extra></extra>`,
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
  const tall = rows ? 90 + ROW * chart.panels[0].series.length : chart.kind === "front" ? 470 : 380;
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
    if (panel.log) Object.assign(x, { type: "log", ...ticks(panel) });
    if (panel.tall) Object.assign(y, { type: "log" });
    if (panel.words.length) {
      Object.assign(x, { tickvals: panel.words.map((_, k) => k), ticktext: panel.words });
    } else if (!panel.log) {
      x.tickformat = ",~r";
      x.rangemode = "tozero";
    }
    if (rows) {
      Object.assign(y, { type: "category", autorange: "reversed", showgrid: false });
      if (panel.span) x.range = [0, reach(panel) * 1.22];
      if (i && !stacked) y.showticklabels = false;
    } else if (panel.span === null && panel.up) {
      y.rangemode = "tozero";
    }
    if (chart.kind === "front") x.rangemode = spread(panel) ? "tozero" : "normal";
    layout[`xaxis${i ? i + 1 : ""}`] = x;
    layout[`yaxis${i ? i + 1 : ""}`] = y;
  });
  return layout;
}

/** The greatest share that a panel of bars shows, at least one percent. */
const reach = (panel) => Math.max(1, ...panel.series.map((series) => series.x[0]));

/** Whether lengths differ by enough for an axis from zero. */
function spread(panel) {
  const lengths = panel.series.map((series) => series.x[0]);
  return Math.min(...lengths) < Math.max(...lengths) / 2;
}

/** Round numbers on a logarithmic axis. */
function ticks(panel) {
  const all = panel.series.flatMap((series) => series.x).filter((value) => value > 0);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const values = [];
  for (let power = 1; power <= high * 10; power *= 10) {
    for (const times of [1, 2, 5]) {
      if (power * times >= low / 2 && power * times <= high * 2) values.push(power * times);
    }
  }
  return { tickvals: values, ticktext: values.map((value) => value.toLocaleString("en")) };
}

const TRACES = { front: frontTraces, lines: lineTraces, bars: rowTraces, boxes: rowTraces };
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
  looks = readJson("looks");
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
