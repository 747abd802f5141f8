"use strict";
(() => {
  const announce = (text) => { document.getElementById("announcement").textContent = text; };

  /* Tables: every heading becomes a button that sorts by its column. */
  const valueOf = (cell, numeric) => {
    if (!numeric) return cell.textContent.trim().toLowerCase();
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const compare = (one, other) => (typeof one === "number" ? one - other : one.localeCompare(other));
  const sort = (table, heading, column) => {
    const numeric = heading.classList.contains("numeric");
    const before = heading.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
    const body = table.tBodies[0];
    const keyed = Array.from(body.rows, (row) => [valueOf(row.cells[column], numeric), row]);
    const pinned = (row) => row.classList.contains("pinned");
    keyed.sort(([one, row], [other, otherRow]) => {
      if (pinned(row) !== pinned(otherRow)) return pinned(row) ? -1 : 1;
      if (one === null || other === null) return (one === null) - (other === null);
      return order === "ascending" ? compare(one, other) : compare(other, one);
    });
    body.append(...keyed.map(([, row]) => row));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    announce(`sorted by ${heading.textContent}, ${order}`);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, heading, column));
    });
  }

  /* Commands: a button that copies. */
  for (const command of document.querySelectorAll(".command:has(code)")) {
    if (!navigator.clipboard) break;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy the command");
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command.querySelector("code").textContent);
      button.textContent = "Copied";
      announce("copied");
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    command.prepend(button);
  }

  /* The index is closed on a small screen; a run that is linked to opens; print shows all. */
  const index = document.querySelector(".index details");
  if (index && window.matchMedia("(max-width: 63.99rem)").matches) index.open = false;
  const openTarget = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details.run")) target.open = true;
  };
  window.addEventListener("hashchange", openTarget);
  openTarget();
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    for (const details of closed) details.open = true;
  });
  window.addEventListener("afterprint", () => { for (const details of closed) details.open = false; });

  /* Predictions, a hundred a page. All text goes in as text. */
  const data = document.getElementById("prediction-data");
  if (!data) return;
  const PAGE = 100;
  const MARKS = ["✓ right", "◐ partly", "✕ wrong", "– no gold"];
  const { runs } = JSON.parse(data.textContent);
  const get = (name) => document.getElementById(`prediction-${name}`);
  const [runs_, tasks, languages, filter] = ["run", "task", "language", "filter"].map(get);
  const [count, previous, next] = ["count", "previous", "next"].map(get);
  const body = get("table").tBodies[0];
  let start = 0;
  const fill = (select, names) => {
    const chosen = select.options[select.selectedIndex]?.text;
    select.replaceChildren(...names.map((name, place) => new Option(name, place)));
    select.value = String(Math.max(0, names.indexOf(chosen)));
  };
  const task = () => runs[runs_.value].tasks[tasks.value];
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const taggedWords = (words) => {
    const cell = element("td", undefined, "words");
    cell.colSpan = 3;
    for (const [word, tag, gold] of words) {
      const differs = gold !== "" && tag !== gold;
      const span = element("span", word, differs ? "word differs" : "word");
      const shown = differs ? `${tag} (gold ${gold})` : tag === "O" ? "" : tag;
      if (shown) span.append(element("small", shown));
      cell.append(span, " ");
    }
    return cell;
  };
  const rowOf = ([id, mark, prediction, gold, share]) => {
    const row = document.createElement("tr");
    row.append(element("td", id), element("td", MARKS[mark], `verdict-${mark}`));
    if (Array.isArray(prediction)) row.append(taggedWords(prediction));
    else {
      row.append(element("td", prediction), element("td", gold));
      row.append(element("td", share === null ? "" : String(share), "numeric"));
    }
    return row;
  };
  const show = () => {
    const language = task().languages[languages.value];
    const rows = language.rows.filter((row) => filter.value === "" || row[1] === Number(filter.value));
    start = Math.min(start, Math.max(0, Math.floor((rows.length - 1) / PAGE) * PAGE));
    const end = Math.min(start + PAGE, rows.length);
    body.replaceChildren(...rows.slice(start, end).map(rowOf));
    const held = language.rows.length;
    const right = language.rows.filter((row) => row[1] === 0).length;
    const whole = held < language.total ? `the first ${held} of ${language.total} predictions` : `${held} predictions`;
    count.textContent = rows.length
      ? `${start + 1} to ${end} of ${rows.length} shown; ${whole}, ${right} of them right`
      : `None; ${whole}, ${right} of them right`;
    previous.disabled = start === 0;
    next.disabled = end >= rows.length;
  };
  const chooseLanguage = () => { start = 0; show(); };
  const chooseTask = () => {
    fill(languages, task().languages.map((language) => language.code));
    chooseLanguage();
  };
  const chooseRun = () => {
    fill(tasks, runs[runs_.value].tasks.map(({ name, split }) => `${name}, ${split}`));
    chooseTask();
  };
  const turn = (pages) => { start += pages * PAGE; show(); };
  fill(runs_, runs.map((run) => run.title));
  runs_.addEventListener("change", chooseRun);
  tasks.addEventListener("change", chooseTask);
  languages.addEventListener("change", chooseLanguage);
  filter.addEventListener("change", chooseLanguage);
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("browser").hidden = false;
  chooseRun();
})();
