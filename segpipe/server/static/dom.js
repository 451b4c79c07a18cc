// Elements, made without ever reading text as HTML: names of files and labels come from strangers.

/** The element with this id. */
export const at = (id) => document.getElementById(id);

/** A new element: make("li", {class: "job", onclick: f}, "text", child). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Text, but only where it differs: a live region speaks at each change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A square of a label's colour. */
export function swatch([red, green, blue]) {
  const square = make("span", { class: "swatch", "aria-hidden": "true" });
  square.style.backgroundColor = `rgb(${red} ${green} ${blue})`;
  return square;
}

/** A moment that the server tells, as people here write it; empty where it tells none. */
export function when(moment, style) {
  const date = new Date(moment ?? NaN);
  return Number.isNaN(date.getTime()) ? "" : new Intl.DateTimeFormat(undefined, style).format(date);
}

/** One line of whatever went wrong. */
export const lineOf = (error) => String(error?.message ?? error).split("\n")[0];
