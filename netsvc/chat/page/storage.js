/** What the browser keeps for the page. If it keeps nothing, as in some private windows, the page keeps it in memory. */

/** A part of the browser's storage that belongs to this chat. Another chat of the same origin has another path. */
export class Storage {
  /** @param {() => globalThis.Storage} area returns `localStorage` or `sessionStorage`, which may throw */
  constructor(area) {
    this.prefix = `netsvc-chat ${new URL(document.baseURI).pathname} `;
    /** @type {Map<string, string>} */
    this.memory = new Map();
    /** @type {globalThis.Storage | null} */
    this.area = null;
    try {
      this.area = area();
    } catch {
      // It is disabled.
    }
  }

  /**
   * @template T
   * @param {string} name
   * @param {T} fallback if nothing is kept, or something of another type
   * @returns {T}
   */
  get(name, fallback) {
    try {
      const value = JSON.parse(this.memory.get(name) ?? this.area?.getItem(this.prefix + name) ?? "null");
      const isSame = typeof value === typeof fallback && Array.isArray(value) === Array.isArray(fallback);
      return value !== null && isSame ? value : fallback;
    } catch {
      return fallback;
    }
  }

  /** @param {string} name @param {unknown} value */
  set(name, value) {
    const text = JSON.stringify(value);
    try {
      if (this.area === null) throw new Error("disabled");
      this.area.setItem(this.prefix + name, text);
      this.memory.delete(name);
    } catch {
      this.memory.set(name, text); // disabled or full
    }
  }

  /** @param {string} name */
  remove(name) {
    this.memory.delete(name);
    try {
      this.area?.removeItem(this.prefix + name);
    } catch {
      // It is disabled.
    }
  }
}
