// The browser of answers: a list filtered by what happened, and two answers side by side.

const PAGE = 25;
const CORRECT = 0; // the place of "correct" among the outcomes
const KINDS = {
  all: ["all answers", () => true],
  shorterRight: ["shorter and still right", (a, b) => b.length < a.length && a.right && b.right],
  shorterWrong: ["shorter and now wrong", (a, b) => b.length < a.length && a.right && !b.right],
  nowRight: ["wrong before, now right", (a, b) => !a.right && b.right],
  longer: ["longer", (a, b) => b.length > a.length],
  bothWrong: ["both wrong", (a, b) => !a.right && !b.right],
  cut: ["cut off", (a, b) => b.cut],
};
const ORDERS = {
  problem: ["problem", null],
  saved: ["most tokens saved", (a, b) => b.length - a.length],
  grown: ["most tokens added", (a, b) => a.length - b.length],
  long: ["longest", (a, b) => -b.length],
};

let told = null; // what the page says of its answers
let words = null; // the pattern of reflection
const view = { task: null, index: null, rows: [], page: 0, open: null, chunks: new Map() };

const tokensOf = (n) => n.toLocaleString("en");

/** One answer of a run in the index; null where it has none. */
function answerAt(run, place) {
  const columns = view.index.runs[run];
  if (columns.length[place] === null) return null;
  const outcome = columns.outcome[place];
  return {
    length: columns.length[place],
    thought: columns.thought[place],
    reflections: columns.reflections[place],
    cut: columns.cut[place] === 1,
    outcome,
    right: outcome === CORRECT,
  };
}

/** Fills a list of choices, keeping what was chosen where it is still there. */
function fill(select, choices, wanted) {
  const before = wanted ?? select.value;
  select.replaceChildren(
    ...choices.map(([value, text]) => {
      const option = element("option", "", text);
      option.value = value;
      return option;
    }),
  );
  if (choices.some(([value]) => value === before)) select.value = before;
}

async function chooseTask() {
  const task = told.tasks[Number(byId("a-task").value)];
  byId("read").setAttribute("aria-busy", "true");
  const index = JSON.parse(await unpack(task.index));
  if (task !== told.tasks[Number(byId("a-task").value)]) return; // chosen again meanwhile
  Object.assign(view, { task, index });
  view.chunks.clear();
  const runs = view.task.runs.map((name) => [name, name]);
  fill(byId("a-left"), runs, view.task.left);
  fill(byId("a-right"), runs, view.task.right);
  const levels = [...new Set(view.index.levels.filter((level) => level !== null))].sort((a, b) => a - b);
  fill(byId("a-level"), [["", "any"], ...levels.map((level) => [String(level), String(level)])], "");
  byId("a-level").closest("label").hidden = levels.length < 2;
  for (const one of document.querySelectorAll(".two")) one.hidden = runs.length < 2;
  byId("a-sample").textContent = view.task.sample;
  close();
  filter();
  byId("read").removeAttribute("aria-busy");
}

/** Lists the answers that the choices let through. */
function filter() {
  const [left, right] = [byId("a-left").value, byId("a-right").value];
  const keep = KINDS[byId("a-kind").value][1];
  const order = ORDERS[byId("a-order").value][1];
  const level = byId("a-level").value;
  const outcome = byId("a-outcome").value;
  const search = byId("a-search").value.trim().toLowerCase();
  const { ids, heads, levels, repeats } = view.index;
  const rows = [];
  for (let problem = 0; problem < ids.length; problem++) {
    if (level && String(levels[problem]) !== level) continue;
    if (search && !`${ids[problem]} ${heads[problem]}`.toLowerCase().includes(search)) continue;
    for (let repeat = 0; repeat < repeats; repeat++) {
      const place = problem * repeats + repeat;
      const [a, b] = [answerAt(left, place), answerAt(right, place)];
      if (!a || !b || !keep(a, b) || (outcome && String(b.outcome) !== outcome)) continue;
      rows.push({ problem, repeat, a, b });
    }
  }
  if (order) rows.sort((x, y) => order(x.a, x.b) - order(y.a, y.b));
  view.rows = rows;
  view.page = 0;
  byId("a-count").textContent = `${rows.length.toLocaleString("en")} of ${(ids.length * repeats).toLocaleString("en")} answers`;
  list();
}

function outcomeCell(answer) {
  const cell = element("td", answer.right ? "yes" : "no", told.outcomes[answer.outcome]);
  return cell;
}

function rowOf(row, place) {
  const line = element("tr");
  const head = element("th");
  head.scope = "row";
  const name = view.index.ids[row.problem] + (view.index.repeats > 1 ? `, answer ${row.repeat + 1}` : "");
  const open = element("button", "open", name);
  open.type = "button";
  open.dataset.place = place;
  open.addEventListener("click", () => show(place));
  head.append(open, element("small", "", view.index.heads[row.problem]));
  line.append(head);
  const level = view.index.levels[row.problem];
  line.append(element("td", "n", level === null ? "–" : String(level)));
  const pair = view.task.runs.length > 1;
  for (const answer of pair ? [row.a, row.b] : [row.b]) {
    line.append(outcomeCell(answer), element("td", "n", tokensOf(answer.length)));
  }
  if (pair) {
    const change = Math.round(100 * (row.b.length / Math.max(row.a.length, 1) - 1));
    line.append(element("td", "n", `${change < 0 ? "−" : "+"}${Math.abs(change)} %`));
  }
  return line;
}

function list() {
  const pages = Math.max(1, Math.ceil(view.rows.length / PAGE));
  view.page = Math.min(Math.max(view.page, 0), pages - 1);
  const from = view.page * PAGE;
  const pair = view.task.runs.length > 1;
  const [left, right] = [byId("a-left").value, byId("a-right").value];
  const heads = pair
    ? ["problem", "level", left, "tokens", right, "tokens", "change"]
    : ["problem", "level", right, "tokens"];
  const line = element("tr");
  for (const [i, text] of heads.entries()) {
    const head = element("th", i && (text === "level" || text === "tokens" || text === "change") ? "n" : "", text);
    head.scope = "col";
    line.append(head);
  }
  byId("a-head").replaceChildren(line);
  byId("a-rows").replaceChildren(
    ...view.rows.slice(from, from + PAGE).map((row, i) => rowOf(row, from + i)),
  );
  byId("a-page").textContent = view.rows.length
    ? `${from + 1}–${Math.min(from + PAGE, view.rows.length)} of ${view.rows.length.toLocaleString("en")}`
    : "Nothing fits: choose less.";
  byId("a-back").disabled = view.page === 0;
  byId("a-on").disabled = view.page >= pages - 1;
}

/** The texts of a problem, from the part of the page that holds them. */
async function textsOf(problem) {
  const chunk = view.task.chunks.findLast((one) => one.first <= problem);
  if (!view.chunks.has(chunk.id)) view.chunks.set(chunk.id, JSON.parse(await unpack(chunk.id)));
  return view.chunks.get(chunk.id)[problem - chunk.first];
}

/** Opens an answer of the list, or the pair of it. */
async function show(place) {
  if (place < 0 || place >= view.rows.length) return;
  view.open = place;
  const row = view.rows[place];
  const texts = await textsOf(row.problem);
  const maths = byId("a-maths").checked;
  const runs = view.task.runs.length > 1 ? [byId("a-left").value, byId("a-right").value] : [byId("a-right").value];
  byId("a-title").textContent = `Problem ${view.index.ids[row.problem]}`;
  const problem = element("div", "prose");
  addProse(problem, texts.problem, 0, texts.problem.length, [], maths);
  const gold = element("p", "gold", "Right answer: ");
  gold.append(element("code", "", tame(texts.gold.slice(0, 300))));
  const answers = runs.map((run, i) =>
    answerOf(run, texts, row.repeat, (runs.length > 1 ? [row.a, row.b] : [row.b])[i], maths),
  );
  const pair = element("div", runs.length > 1 ? "pair" : "");
  pair.append(...answers);
  byId("a-body").replaceChildren(problem, gold, pair);
  byId("a-previous").disabled = place === 0;
  byId("a-next").disabled = place === view.rows.length - 1;
  byId("a-open").hidden = false;
  byId("a-title").focus({ preventScroll: true });
  byId("a-open").scrollIntoView({ block: "start" });
}

function close() {
  byId("a-open").hidden = true;
  view.open = null;
}

/** One answer: what became of it, the thought folded, then what follows. */
function answerOf(run, texts, repeat, facts, maths) {
  const [text, answer] = texts.answers[run][repeat];
  const whole = element("article", "answer");
  whole.append(element("h4", "", run));
  const about = element("p", "about");
  about.append(element("strong", facts.right ? "yes" : "no", told.outcomes[facts.outcome]));
  about.append(` · ${tokensOf(facts.length)} tokens · ${facts.reflections} words of reflection`);
  if (answer !== null) {
    about.append(" · answer ");
    about.append(element("code", "", tame(answer.slice(0, 120))));
  }
  whole.append(about);
  const known = facts.right ? [...texts.spellings, answer] : texts.spellings;
  const marks = marksOf(text, words, firstPlace(text, known));
  const end = text.indexOf(told.close);
  const cut = end < 0 ? (facts.thought ? text.length : 0) : end + told.close.length;
  if (cut > 0) whole.append(thoughtOf(text, cut, facts, marks, maths, end < 0));
  const said = element("div", "prose");
  addProse(said, text, cut, text.length, marks, maths);
  if (cut < text.length) whole.append(said);
  if (!text) whole.append(element("p", "note", "The answer is empty."));
  if (facts.cut) whole.append(element("p", "note", "Here the budget cut it off."));
  return whole;
}

/** The thought of an answer, set when it is first opened. */
function thoughtOf(text, cut, facts, marks, maths, unclosed) {
  const folded = element("details", "thought");
  const inside = marks.filter((mark) => mark.end <= cut);
  const reflects = inside.filter((mark) => mark.kind === "reflects").length;
  const found = inside.some((mark) => mark.kind === "answered");
  folded.append(
    element(
      "summary",
      "",
      `Thought: ${tokensOf(facts.thought)} of ${tokensOf(facts.length)} tokens, ${reflects} reflections` +
        (found ? ", the right answer stands in it" : "") +
        (unclosed ? ", never closed" : ""),
    ),
  );
  folded.addEventListener("toggle", () => {
    if (!folded.open || folded.querySelector(".prose")) return;
    const prose = element("div", "prose");
    addProse(prose, text, 0, cut, marks, maths);
    folded.append(prose);
  });
  folded.open = unclosed; // there is nothing else to read
  return folded;
}

/** Keys of the open pair: j and k or the arrows go on and back, Escape closes. */
function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  if (["j", "ArrowRight"].includes(event.key)) show(view.open + 1);
  if (["k", "ArrowLeft"].includes(event.key)) show(view.open - 1);
  if (event.key === "Escape") leave();
}

function leave() {
  const place = view.open;
  close();
  byId("a-rows").querySelector(`[data-place="${place}"]`)?.focus();
}

async function startAnswers() {
  told = readJson("answers");
  if (!told.tasks.length) return;
  words = new RegExp(`(?<![a-z])(?:${told.keywords.join("|")})(?![a-z])`, "gi");
  fill(byId("a-task"), told.tasks.map((task, i) => [String(i), task.name]), "0");
  byId("a-task").closest("label").hidden = told.tasks.length < 2;
  fill(byId("a-kind"), Object.entries(KINDS).map(([key, [text]]) => [key, text]), "all");
  fill(byId("a-order"), Object.entries(ORDERS).map(([key, [text]]) => [key, text]), "problem");
  fill(byId("a-outcome"), [["", "any"], ...told.outcomes.map((text, i) => [String(i), text])], "");
  byId("a-task").addEventListener("change", chooseTask);
  for (const id of ["a-left", "a-right", "a-kind", "a-order", "a-level", "a-outcome"]) {
    byId(id).addEventListener("change", () => (close(), filter()));
  }
  byId("a-search").addEventListener("input", () => (close(), filter()));
  byId("a-maths").addEventListener("change", () => view.open !== null && show(view.open));
  byId("a-back").addEventListener("click", () => (view.page--, list()));
  byId("a-on").addEventListener("click", () => (view.page++, list()));
  byId("a-previous").addEventListener("click", () => show(view.open - 1));
  byId("a-next").addEventListener("click", () => show(view.open + 1));
  byId("a-close").addEventListener("click", leave);
  byId("a-open").addEventListener("keydown", keys);
  await chooseTask();
  document.documentElement.dataset.answers = "ready";
}
