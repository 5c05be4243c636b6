// What the other scripts of the page share: elements, packed data, tabs.

/** The element with an id. */
const byId = (id) => document.getElementById(id);

/** A new element with a class and plain text: text never becomes markup here. */
function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** The text in an element that holds gzip in base64. */
async function unpack(id) {
  const packed = byId(id).textContent;
  let bytes;
  if (Uint8Array.fromBase64) {
    bytes = Uint8Array.fromBase64(packed);
  } else {
    const binary = atob(packed);
    bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** The plain JSON in an element. */
const readJson = (id) => JSON.parse(byId(id).textContent);

/** Tabs as the ARIA practices want them: arrows move, one panel is shown. */
function startTabs(list, changed) {
  const tabs = [...list.querySelectorAll('[role="tab"]')];
  const choose = (chosen, focus) => {
    for (const tab of tabs) {
      const on = tab === chosen;
      tab.setAttribute("aria-selected", on);
      tab.tabIndex = on ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !on;
    }
    if (focus) chosen.focus();
    changed();
  };
  const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  for (const [i, tab] of tabs.entries()) {
    tab.addEventListener("click", () => choose(tab, false));
    tab.addEventListener("keydown", (event) => {
      let to = null;
      if (event.key in moves) to = (i + moves[event.key] + tabs.length) % tabs.length;
      if (event.key === "Home") to = 0;
      if (event.key === "End") to = tabs.length - 1;
      if (to === null) return;
      event.preventDefault();
      choose(tabs[to], true);
    });
  }
  list.hidden = tabs.length < 2;
  if (tabs.length) choose(tabs[0], false);
}
