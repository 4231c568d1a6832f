// Tables that can be sorted by any column: by the cells' data-sort as numbers where they have it, else by their text.
addEventListener("DOMContentLoaded", () => document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const compare = (a, b) => "sort" in a.dataset
    ? Number(a.dataset.sort) - Number(b.dataset.sort) : a.textContent.localeCompare(b.textContent);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column]));
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}));
