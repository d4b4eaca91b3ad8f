// Put parts of the page in their places as they come. The server has escaped what is in them.
"use strict";

function put(id, html) {
  const old = document.getElementById(id);
  if (!old) return;
  const opened = [...document.querySelectorAll("details[open]")].map((each) => each.id);
  const box = document.createElement("template");
  box.innerHTML = html;
  old.replaceWith(box.content);
  for (const each of opened) document.getElementById(each)?.setAttribute("open", "");
}

const reading = document.getElementById("reading");
if (reading?.dataset.events) {
  const source = new EventSource(reading.dataset.events);
  source.addEventListener("part", (event) => {
    const part = JSON.parse(event.data);
    put(part.id, part.html);
  });
  source.addEventListener("over", () => source.close());
}
