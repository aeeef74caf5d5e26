/** What the user has set. All tabs share it. */

/**
 * @typedef {object} Values
 * @property {string} theme `system`, `light` or `dark`
 * @property {boolean} showsPresence whether joins and leaves are shown
 * @property {boolean} notifies whether mentions and private messages cause notifications
 * @property {boolean} showsMembers whether the list of members is shown on a wide screen
 */

/** @type {Values} */
const DEFAULTS = { theme: "system", showsPresence: true, notifies: false, showsMembers: true };

export class Settings {
  /** @param {import("./storage.js").Storage} storage @param {() => void} changed */
  constructor(storage, changed) {
    this.storage = storage;
    this.changed = changed;
    /** @type {Values} */
    this.values = { ...DEFAULTS, ...storage.get("settings", {}) };
  }

  /** @param {Partial<Values>} values */
  set(values) {
    Object.assign(this.values, values);
    this.storage.set("settings", this.values);
    this.changed();
  }
}
