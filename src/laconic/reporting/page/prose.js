// Turns the text of an answer into elements: formulas as MathML, words of reflection and the first
// place of the right answer marked. Text is only ever added as text.

const MOST_SHOWN = 200_000; // characters of one text
const MOST_FORMULA = 1_500; // characters of one formula
const MOST_FORMULAS = 1_500; // formulas of one text
const DEEPEST = 40; // braces within braces
const OPENERS = [
  ["$$", "$$", true],
  ["\\[", "\\]", true],
  ["\\(", "\\)", false],
  ["$", "$", false],
  ["\\boxed{", "}", false],
  ["\\begin{", "", true],
];

/** Signs that would move or hide other text, made visible; endless words, broken into lines. */
const tame = (text) =>
  text.replace(/\S{1000}(?=\S)/g, "$&\n").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]/g, "\ufffd");

/** The end of a group that opens with a brace just before a place; -1 where it never closes. */
function closing(text, from) {
  let depth = 1;
  const last = Math.min(text.length, from + MOST_FORMULA);
  for (let i = from; i < last; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === "{") depth++;
    else if (text[i] === "}" && --depth === 0) return i;
  }
  return -1;
}

/** The end of a formula that opens at a place, and what is in it; null where it is none. */
function formulaAt(text, start, [opener, closer, display], lost) {
  const from = start + opener.length;
  if (opener === "\\boxed{") {
    const end = closing(text, from);
    return end < 0 ? null : { end: end + 1, tex: text.slice(start, end + 1), display };
  }
  if (opener === "\\begin{") {
    const name = /^[a-z]{1,12}\*?(?=\})/.exec(text.slice(from, from + 14));
    if (!name) return null;
    const close = `\\end{${name[0]}}`;
    const end = text.indexOf(close, from);
    if (end < 0 || end - start > MOST_FORMULA) return null;
    return { end: end + close.length, tex: text.slice(start, end + close.length), display };
  }
  if (lost.has(closer) || (opener === "$" && /\s/.test(text[from] ?? " "))) return null;
  const end = text.indexOf(closer, from);
  if (end < 0) lost.add(closer);
  if (end <= from || end - from > MOST_FORMULA) return null;
  const tex = text.slice(from, end);
  if (opener === "$" && (/\n|\s$/.test(tex) || /\d/.test(text[end + 1] ?? ""))) return null;
  return { end: end + closer.length, tex, display };
}

/** The formulas of a text: where each starts and ends, and its TeX. */
function formulas(text) {
  const found = [];
  const lost = new Set(); // closers that occur no more
  const next = /\$\$?|\\\[|\\\(|\\boxed\{|\\begin\{/g;
  for (let match; (match = next.exec(text)) && found.length < MOST_FORMULAS; ) {
    const opener = OPENERS.find(([start]) => start === match[0]);
    const one = formulaAt(text, match.index, opener, lost);
    if (!one) continue;
    found.push({ start: match.index, ...one });
    next.lastIndex = one.end;
  }
  return found;
}

/** A formula as MathML; its source where it is damaged, too deep or not allowed. */
function mathOf({ tex, display }, source) {
  const holder = element("span", display ? "math display" : "math");
  let depth = 0;
  let deepest = 0;
  for (const letter of tex) {
    if (letter === "{") deepest = Math.max(deepest, ++depth);
    if (letter === "}") depth--;
  }
  try {
    if (deepest > DEEPEST) throw new RangeError("too deep");
    temml.render(tex, holder, {
      displayMode: display,
      throwOnError: true,
      trust: false,
      maxExpand: 100,
      maxSize: [5, 30],
    });
  } catch {
    holder.className = "tex";
    holder.textContent = source;
  }
  return holder;
}

/** Where the first of some answers ends in a text, not within a longer number; null if nowhere. */
function firstPlace(text, answers) {
  let best = null;
  for (const answer of answers.filter(Boolean)) {
    for (let start = text.indexOf(answer); start >= 0; start = text.indexOf(answer, start + 1)) {
      const end = start + answer.length;
      if (/[\d.]/.test(text[start - 1] ?? "") || /\d/.test(text[end] ?? "")) continue;
      if (!best || end < best.end) best = { start, end };
      break;
    }
  }
  return best;
}

/** What is marked in a text, in order: words of reflection, the first place of the answer. */
function marksOf(text, words, answer) {
  const marks = [];
  if (words) {
    for (const match of text.matchAll(words)) {
      marks.push({ start: match.index, end: match.index + match[0].length, kind: "reflects" });
    }
  }
  if (answer) marks.push({ ...answer, kind: "answered" });
  return marks.sort((a, b) => a.start - b.start);
}

const TOLD = { reflects: "reflection", answered: "the right answer stands here for the first time" };

function marked(kind, inside) {
  const mark = element("mark", kind);
  mark.title = TOLD[kind];
  mark.append(inside);
  if (kind === "answered") mark.append(element("span", "unseen", ` (${TOLD[kind]})`));
  return mark;
}

/** Adds plain text to a holder, marks included. */
function addPlain(holder, text, from, to, marks) {
  let at = from;
  for (const mark of marks) {
    if (mark.end <= at || mark.start >= to) continue;
    const [start, end] = [Math.max(mark.start, at), Math.min(mark.end, to)];
    if (start > at) holder.append(tame(text.slice(at, start)));
    holder.append(marked(mark.kind, tame(text.slice(start, end))));
    at = end;
  }
  if (at < to) holder.append(tame(text.slice(at, to)));
}

/**
 * Adds a part of a text to a holder.
 *
 * `marks` are those of the whole text; `maths` says whether formulas are set or left as TeX.
 */
function addProse(holder, text, from, to, marks, maths) {
  const end = Math.min(to, from + MOST_SHOWN);
  const part = text.slice(from, end);
  let at = from;
  for (const one of maths ? formulas(part) : []) {
    const [start, stop] = [from + one.start, from + one.end];
    addPlain(holder, text, at, start, marks);
    const inside = marks.find((m) => m.kind === "answered" && m.end > start && m.start < stop);
    const set = mathOf(one, tame(text.slice(start, stop)));
    holder.append(inside ? marked("answered", set) : set);
    at = stop;
  }
  addPlain(holder, text, at, end, marks);
  if (end < to) {
    holder.append(element("p", "note", `${(to - end).toLocaleString("en")} more characters are not shown.`));
  }
}
