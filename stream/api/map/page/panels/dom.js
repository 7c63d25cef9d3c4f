// Makes elements. All text goes in as textContent, so that nothing that a record says is ever read as HTML.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name === "data") Object.assign(made.dataset, value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** An id that anybody may have chosen: <bdi> keeps marks of other directions of writing inside it. */
export const idText = (id, attributes = {}) => element("bdi", { class: "id", title: id, text: id, ...attributes });

/** A named figure: its text, and as `data-value` the number as the server said it; `title` explains the name. */
export function figure(field, name, text, value, title = null) {
  const said = value === null || value === undefined ? "" : String(value);
  return element("div", { class: "figure", title },
    element("dt", { text: name }),
    element("dd", { text, data: { field, value: said } }),
  );
}

/** A table with a caption, one row for each of `rows`; a column is [heading, cell text, title of the heading, text of a
 * smaller line below]. */
export function table(caption, columns, rows, name) {
  const head = element("tr", {}, ...columns.map(([heading, , title]) => element("th", { scope: "col", text: heading, title })));
  const body = rows.map((row) =>
    element("tr", {}, ...columns.map(([, cell, , below], index) =>
      element(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, text: cell(row) },
        ...(below ? [element("small", { text: below(row) })] : [])),
    )),
  );
  return element("table", { data: { table: name } },
    element("caption", { text: caption }),
    element("thead", {}, head),
    element("tbody", {}, ...body),
  );
}
