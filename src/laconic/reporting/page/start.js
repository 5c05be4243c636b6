// Starts the page: what can be read at once first, the pictures' library last.

startTabs(byId("tabs"), () => document.documentElement.dataset.charts && drawNew());
startAnswers().finally(() => setTimeout(startCharts, 50));

/** Draws the charts of a panel that has just been shown. */
function drawNew() {
  document.querySelectorAll(".chart").forEach((holder) => {
    if (holder.clientWidth && !drawn.has(holder)) draw(holder);
  });
  drawAll();
}
