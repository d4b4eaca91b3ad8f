// Keep a page up to date. Everything that comes is text and is set as text: nothing here makes markup of data.
"use strict";

const main = document.querySelector("main");
const state = document.querySelector("[data-state]");
let source = null;
let paused = false;
let place = "";

function say(kind, trouble) {
  if (!state || (state.dataset.state === kind && kind === "live")) return;
  state.dataset.state = kind;
  const told = state.querySelector("[data-trouble]");
  setText(told, trouble);
  told.hidden = trouble === "";
  state.querySelector("[data-calm]").hidden = trouble !== "";
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function fill(row, values) {
  for (const element of row.querySelectorAll("[data-field]")) {
    const text = values[element.dataset.field] || "";
    setText(element, text);
    const part = element.closest(".rule, .cure") || element;
    if (part.tagName !== "TIME" && !part.classList.contains("verdict")) part.hidden = text === "";
  }
  for (const element of row.querySelectorAll("[data-value]")) element.value = values[element.dataset.value] || "";
}

function showNow(live) {
  for (const element of document.querySelectorAll("[data-now]")) {
    const text = live.text[element.dataset.now];
    if (text === undefined) continue;
    setText(element, text);
    if (element.classList.contains("notice")) element.hidden = text === "";
  }
  for (const element of document.querySelectorAll("[data-bar]")) {
    const part = live.bars[element.dataset.bar];
    if (part === undefined) continue;
    element.setAttribute("width", String(part * 100));
    element.dataset.level = part >= 1 ? "full" : part >= 0.8 ? "high" : "";
  }
  for (const element of document.querySelectorAll("[data-path]")) {
    element.setAttribute("d", live.paths[element.dataset.path] || "");
  }
}

function showLines(lines) {
  const table = document.querySelector("[data-lines]");
  if (!table || lines.length === 0) return;
  const body = table.tBodies[0];
  const template = document.querySelector("template[data-line]");
  for (const line of lines.slice().reverse()) {
    const row = template.content.firstElementChild.cloneNode(true);
    row.dataset.kind = line.kind;
    row.className = "fresh";
    fill(row, line);
    row.querySelector("time").dateTime = line.time;
    offerCopy(row);
    body.prepend(row);
  }
  while (body.rows.length > Number(table.dataset.most)) body.lastElementChild.remove();
  document.querySelector("[data-nothing]").hidden = true;
}

// Rows stay where they are and keep the focus that is in them; what has ended goes, what is new comes last.
function showSockets(sockets) {
  const table = document.querySelector("[data-sockets]");
  const body = table.tBodies[0];
  const template = document.querySelector("template[data-socket]");
  const known = new Map(Array.from(body.rows, (row) => [row.dataset.lease, row]));
  for (const socket of sockets) {
    let row = known.get(socket.lease);
    if (row === undefined) {
      row = template.content.firstElementChild.cloneNode(true);
      row.dataset.lease = socket.lease;
      body.append(row);
    }
    known.delete(socket.lease);
    fill(row, socket);
  }
  for (const row of known.values()) row.remove();
  document.querySelector("[data-no-sockets]").hidden = sockets.length > 0;
}

// Rows are told apart by their key, and are put into the order in which they came.
function showTables(tables) {
  for (const table of document.querySelectorAll("[data-table]")) {
    const name = table.dataset.table;
    const rows = tables[name];
    if (rows === undefined) continue;
    const body = table.tBodies[0];
    const template = document.querySelector(`template[data-row="${name}"]`);
    const known = new Map(Array.from(body.rows, (row) => [row.dataset.key, row]));
    rows.forEach((values, index) => {
      let row = known.get(values.key);
      if (row === undefined) {
        row = template.content.firstElementChild.cloneNode(true);
        row.dataset.key = values.key;
      }
      known.delete(values.key);
      row.dataset.kind = values.kind || "";
      fill(row, values);
      if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] || null);
    });
    for (const row of known.values()) row.remove();
    document.querySelector(`[data-none="${name}"]`).hidden = rows.length > 0;
  }
}

function show(event) {
  const said = JSON.parse(event.data);
  place = event.lastEventId;
  if (said.problem) {
    say("lost", said.problem);
    return;
  }
  say("live", "");
  if (paused) return;
  if (said.live) {
    if (JSON.stringify(said.live.rows) !== JSON.stringify(JSON.parse(main.dataset.rows)) && !isBusy()) {
      location.reload();
      return;
    }
    showNow(said.live);
  }
  if (said.sockets) showSockets(said.sockets);
  if (said.tables) showTables(said.tables);
  showLines(said.lines);
}

// Somebody who is about to press something is not to have the page change under the hand.
function isBusy() {
  return document.querySelector("details[open]") !== null || document.activeElement?.closest("form, table") !== null;
}

function follow() {
  const wanted = main.dataset.live && document.visibilityState === "visible";
  if (wanted && source === null) {
    const address = new URL(main.dataset.live, location);
    if (place) address.searchParams.set("from", place);
    source = new EventSource(address);
    source.onmessage = show;
    source.onerror = () => say("lost", "the console does not answer; it is tried again");
  } else if (!wanted && source !== null) {
    source.close();
    source = null;
  }
}

function offerCopy(part) {
  for (const button of part.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      // What is copied is the line of the configuration, without the words before it.
      const line = button.previousElementSibling.textContent.replace(/^to permit: /, "");
      await navigator.clipboard.writeText(line);
      button.textContent = "Copied";
      setTimeout(() => setText(button, "Copy"), 1500);
    });
  }
}

const pause = document.querySelector("[data-pause]");
if (pause) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) location.reload(); // what came meanwhile
  });
}
offerCopy(document);
document.addEventListener("visibilitychange", follow);
window.addEventListener("pagehide", () => source?.close());
follow();
