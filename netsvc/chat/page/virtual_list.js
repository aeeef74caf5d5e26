/**
 * A list of many rows, of which only those near the visible part are in the document.
 *
 * Rows are measured when they are shown; the heights of others are estimated. The list stays at its end while it is
 * there. Elsewhere, the first visible row stays where it is, whatever is added or removed.
 */

import { element, oncePerFrame } from "./dom.js";

/** @typedef {import("./message_log.js").Row} Row */

/** Pixels that are rendered above and below the visible part. */
const OVERSCAN = 600;

/** Pixels from the end within which the list counts as being at its end. */
const NEAR_END = 24;

/** Renderings of one frame: heights that are measured can make other rows visible. */
const PASSES_MAX = 6;

/**
 * @typedef {object} Rendering
 * @property {() => Row[]} rows
 * @property {(row: Row, previous: Row | undefined) => number} appearance differs if the element is to be made anew
 * @property {(row: Row, previous: Row | undefined, appearance: number) => HTMLElement} build
 * @property {(row: Row, width: number) => number} estimate the height of a row that was not measured
 * @property {(row: Row, hasRowsAbove: boolean) => void} gapVisible
 * @property {() => void} rendered
 */

/**
 * @typedef {object} Shown
 * @property {HTMLElement} element
 * @property {string} look version and appearance
 */

export class VirtualList {
  /** @param {HTMLElement} scroller @param {Rendering} rendering */
  constructor(scroller, rendering) {
    this.scroller = scroller;
    this.rendering = rendering;
    this.space = element("div", { class: "space" });
    this.window = element("div", { class: "window" });
    this.space.append(this.window);
    scroller.append(this.space);
    this.isAtEnd = true;
    /** @type {Row | null} the row that stays where it is */
    this.anchor = null;
    /** Pixels from the top of the visible part to the anchor's top. */
    this.anchorTop = 0;
    this.layout = 1;
    this.width = 0;
    /** @type {Row[]} as they were rendered last */
    this.rows = [];
    this.tops = new Float64Array(1);
    this.scrollTop = 0;
    /** @type {Map<Row, Shown>} */
    this.shown = new Map();
    this.changed = oncePerFrame(() => this.render());
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const observer = new ResizeObserver(() => this.changed());
    observer.observe(scroller);
    observer.observe(this.window);
  }

  /** Shows other rows. @param {Row | null} anchor the row to begin with; null for the end */
  reset(anchor) {
    this.isAtEnd = anchor === null;
    this.anchor = anchor;
    this.anchorTop = 0;
    this.render();
  }

  toEnd() {
    this.isAtEnd = true;
    this.render();
  }

  /** Scrolls to a row. @param {Row} row @returns {HTMLElement | undefined} its element */
  toRow(row) {
    this.isAtEnd = false;
    this.anchor = row;
    this.anchorTop = this.scroller.clientHeight / 3;
    this.render();
    return this.shown.get(row)?.element;
  }

  /** Makes all elements anew. */
  renew() {
    this.layout += 1;
    for (const { element: each } of this.shown.values()) each.remove();
    this.shown.clear();
    this.changed();
  }

  /** Where the visible part is, for {@link restore}. */
  position() {
    return this.isAtEnd ? null : { row: this.anchor, top: this.anchorTop };
  }

  /** @param {{row: Row | null, top: number} | null} position */
  restore(position) {
    this.isAtEnd = position === null;
    this.anchor = position?.row ?? null;
    this.anchorTop = position?.top ?? 0;
    this.render();
  }

  render() {
    const { scroller } = this;
    const height = scroller.clientHeight;
    if (height === 0) return;
    if (scroller.clientWidth !== this.width) {
      this.width = scroller.clientWidth;
      this.layout += 1;
    }
    this.rows = this.rendering.rows();
    for (let pass = 0; pass < PASSES_MAX; pass += 1) {
      this.#sum();
      const top = this.#wantedTop(height);
      this.#place(this.#indexAt(top - OVERSCAN), this.#indexAt(top + height + OVERSCAN));
      if (!this.#measure()) break;
    }
    this.#sum();
    const top = this.#wantedTop(height);
    if (Math.abs(scroller.scrollTop - top) >= 1) scroller.scrollTop = top;
    this.scrollTop = scroller.scrollTop;
    this.#reportGaps(height);
    this.rendering.rendered();
  }

  /** The sums of the heights: where each row begins. */
  #sum() {
    const { rows } = this;
    if (this.tops.length < rows.length + 1) this.tops = new Float64Array(rows.length * 2 + 64);
    let top = 0;
    for (let index = 0; index < rows.length; index += 1) {
      const row = rows[index];
      this.tops[index] = top;
      top += row.layout === this.layout ? row.height : row.height || this.rendering.estimate(row, this.width);
    }
    this.tops[rows.length] = top;
    this.space.style.height = `${top}px`;
  }

  /** @param {number} height of the visible part */
  #wantedTop(height) {
    const most = Math.max(0, this.tops[this.rows.length] - height);
    if (this.isAtEnd) return most;
    const index = this.anchor === null ? -1 : this.rows.lastIndexOf(this.anchor);
    const wanted = index < 0 ? this.scroller.scrollTop : this.tops[index] - this.anchorTop;
    return Math.min(Math.max(0, wanted), most);
  }

  /** The index of the row at a height. @param {number} top */
  #indexAt(top) {
    let low = 0;
    let high = this.rows.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.tops[middle] <= top) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Puts the rows from one index to another into the document, and removes others. @param {number} first @param {number} last */
  #place(first, last) {
    const { rows, shown, rendering } = this;
    const kept = new Set(rows.slice(first, last + 1));
    for (const [row, { element: old }] of shown) {
      if (kept.has(row)) continue;
      this.#remove(old);
      shown.delete(row);
    }
    /** @type {ChildNode | null} */
    let next = this.window.firstChild;
    for (let index = first; index <= last && index < rows.length; index += 1) {
      const row = rows[index];
      const appearance = rendering.appearance(row, rows[index - 1]);
      const look = `${row.version} ${appearance}`;
      let current = shown.get(row);
      if (current?.look !== look) {
        const built = rendering.build(row, rows[index - 1], appearance);
        if (current !== undefined) {
          if (next === current.element) next = next.nextSibling;
          this.#remove(current.element);
        }
        current = { element: built, look };
        shown.set(row, current);
        row.layout = 0;
      }
      if (next === current.element) next = next.nextSibling;
      else this.window.insertBefore(current.element, next);
    }
    this.window.style.transform = `translateY(${this.tops[first] ?? 0}px)`;
  }

  /** Does not lose the keyboard's place with a removed row. @param {HTMLElement} removed */
  #remove(removed) {
    if (removed.contains(document.activeElement)) this.scroller.focus({ preventScroll: true });
    removed.remove();
  }

  /** Measures the rows in the document. @returns {boolean} whether a height was not as expected */
  #measure() {
    let hasChanged = false;
    for (const [row, { element: each }] of this.shown) {
      const { height } = each.getBoundingClientRect();
      if (Math.abs(height - row.height) > 0.1 || row.layout !== this.layout) {
        hasChanged ||= Math.abs(height - row.height) > 0.1;
        row.height = height;
        row.layout = this.layout;
      }
    }
    return hasChanged;
  }

  /** The user has scrolled. */
  #scrolled() {
    const { scroller } = this;
    if (Math.abs(scroller.scrollTop - this.scrollTop) < 1) return; // by this program
    const top = (this.scrollTop = scroller.scrollTop);
    const end = this.tops[this.rows.length] - scroller.clientHeight;
    this.isAtEnd = top >= end - NEAR_END;
    let index = this.#indexAt(top);
    while (index < this.rows.length - 1 && (this.rows[index].gap || this.tops[index + 1] <= top)) index += 1;
    this.anchor = this.rows[index] ?? null;
    this.anchorTop = (this.tops[index] ?? 0) - top;
    this.render();
  }

  /** @param {number} height of the visible part */
  #reportGaps(height) {
    const first = this.#indexAt(this.scrollTop - OVERSCAN);
    const last = this.#indexAt(this.scrollTop + height + OVERSCAN);
    for (let index = first; index <= last && index < this.rows.length; index += 1) {
      const row = this.rows[index];
      const isFromAbove = this.tops[index] > this.scrollTop + 1 && this.rows[index - 1]?.offset > 0;
      if (row.gap) this.rendering.gapVisible(row, isFromAbove && !this.isAtEnd);
    }
  }
}
