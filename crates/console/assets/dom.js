// Builds and changes page elements.
//
// Why: all text from outside must enter the page as text, never as markup; one small builder makes that the
// easy way. Setters write only what differs, so that an update of a thousand rows touches a few nodes.
// Invariant: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element. `props`: `class`, `on…` listeners, `dataset`, and attributes; null and false are left out. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Creates an SVG element. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Sets the text, if it differs. */
export function setText(node, text) {
  const wanted = text ?? "";
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets or removes an attribute, if it differs. */
export function setAttr(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const wanted = value === true ? "" : String(value);
  if (node.getAttribute(name) !== wanted) node.setAttribute(name, wanted);
}

/** Text with what stands between backticks as code: pieces for `h` or `replace`. */
export function prose(text) {
  const pieces = text.split("`");
  // An odd number of backticks is no markup.
  if (pieces.length % 2 === 0) return [text];
  return pieces.map((piece, n) => (n % 2 === 1 ? h("code", null, piece) : piece)).filter((piece) => piece !== "");
}

/** Shows or hides. */
export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** Replaces all children. */
export function replace(node, ...children) {
  node.replaceChildren();
  append(node, children);
}

/**
 * Makes `parent` hold exactly `wanted`, in order, moving as few nodes as possible; the focus stays where it was
 * even when its row moves.
 */
export function arrange(parent, wanted) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const node of wanted) {
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
  if (focused && focused.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}
