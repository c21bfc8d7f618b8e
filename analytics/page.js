"use strict";

// Tables: a click on a column's name sorts by it, and a second click turns the order round.
function cellValue(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.sort ?? cell.textContent.trim();
  const number = text.replace(/[,%\s]/g, "");
  return number !== "" && isFinite(number) ? Number(number) : text;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(head, column) {
  const body = head.closest("table").tBodies[0];
  const falls = head.getAttribute("aria-sort") === "descending";
  const rows = [...body.rows].filter((row) => !row.classList.contains("sum"));
  rows.sort((a, b) => compare(cellValue(a, column), cellValue(b, column)) * (falls ? 1 : -1));
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falls ? "ascending" : "descending");
  const sums = [...body.rows].filter((row) => row.classList.contains("sum"));
  body.append(...rows, ...sums);
}

for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(head, column));
    head.replaceChildren(button);
  });
}

// Charts: a mark says its numbers, which it carries in its label, under the pointer or a finger.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);

function showTip(event) {
  const mark = event.target.closest("figure [aria-roledescription]");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.getAttribute("aria-label");
  const left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 16;
  const isLow = below + tip.offsetHeight > innerHeight;
  tip.style.left = `${Math.max(left, 8)}px`;
  tip.style.top = `${isLow ? event.clientY - tip.offsetHeight - 12 : below}px`;
}

document.addEventListener("pointermove", showTip);
document.addEventListener("pointerdown", showTip);
document.addEventListener("scroll", () => (tip.hidden = true), { passive: true });
