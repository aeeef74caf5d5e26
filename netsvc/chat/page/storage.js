/** What the browser keeps for the page, and which tab uses it. */

/** A storage of the browser, or memory if that is disabled or full. */
export class Store {
  /** @param {() => Storage} area */
  constructor(area) {
    this.prefix = `netsvc-chat ${new URL(document.baseURI).pathname} `;
    /** @type {Map<string, string>} */
    this.memory = new Map();
    /** @type {Storage | null} */
    this.area = null;
    try {
      this.area = area();
    } catch {
      // It is disabled.
    }
  }

  /** @template T @param {string} name @param {T} fallback @returns {T} */
  get(name, fallback) {
    const text = this.memory.get(name) ?? this.area?.getItem(this.prefix + name) ?? "null";
    try {
      const value = JSON.parse(text);
      const isSame = typeof value === typeof fallback && Array.isArray(value) === Array.isArray(fallback);
      return value !== null && isSame ? value : fallback;
    } catch {
      return fallback;
    }
  }

  /** @param {string} name @param {unknown} value */
  set(name, value) {
    const text = JSON.stringify(value);
    this.memory.set(name, text);
    try {
      this.area?.setItem(this.prefix + name, text);
      if (this.area) this.memory.delete(name);
    } catch {
      // It is full.
    }
  }
}

/** What the user has set. All tabs share it. */
export class Settings {
  /** @param {Store} store @param {() => void} changed */
  constructor(store, changed) {
    this.store = store;
    this.changed = changed;
    const defaults = { theme: "system", showsPresence: true, notifies: false, showsMembers: true };
    /** @type {SettingsValues} */
    this.values = { ...defaults, ...store.get("settings", {}) };
  }

  /** @param {Partial<SettingsValues>} values */
  set(values) {
    Object.assign(this.values, values);
    this.store.set("settings", this.values);
    this.changed();
  }
}

const ANSWER_MS = 250;

/** A duplicated tab begins with a copy of the session storage. */
export class TabGuard {
  /** @param {string} channel @param {() => void} taken */
  constructor(channel, taken) {
    this.claimed = "";
    /** @type {((name: string) => void) | null} */
    this.answered = null;
    this.channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(channel);
    this.channel?.addEventListener("message", ({ data }) => {
      if (this.claimed && data.question === this.claimed) this.channel?.postMessage({ answer: this.claimed });
      if (this.claimed && data.taken === this.claimed) taken();
      if (data.answer) this.answered?.(data.answer);
    });
  }

  /** @param {string} name */
  take(name) {
    this.channel?.postMessage({ taken: name });
  }

  /** @param {string} name @returns {Promise<boolean>} */
  isUsedElsewhere(name) {
    this.channel?.postMessage({ question: name });
    return new Promise((resolve) => {
      setTimeout(() => resolve(false), this.channel ? ANSWER_MS : 0);
      this.answered = (answer) => answer === name && resolve(true);
    });
  }
}
