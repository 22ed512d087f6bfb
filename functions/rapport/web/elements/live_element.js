import { LitElement } from "lit";

/**
 * What an element looks at: a subscription, everything, an outbox or what somebody writes.
 *
 * @template S
 * @typedef {{ getSnapshot(): S, subscribe(listener: () => void): () => void }} Store
 */

/**
 * An element in the page's own tree, which the page's style sheets reach.
 */
export class PageElement extends LitElement {
  /** Ends what it looks at. @type {Map<string, { store: Store<any>, end: () => void }>} */
  #looked = new Map();

  /** @override */
  createRenderRoot() {
    return this;
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    // what it looked at before it was taken out is looked at again
    this.requestUpdate();
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    for (const { end } of this.#looked.values()) end();
    this.#looked.clear();
  }

  /**
   * What a store shows, looked at until another has its name or the element is taken out.
   *
   * @protected
   * @template S
   * @param {string} name
   * @param {Store<S> | null | undefined} store
   * @returns {S | null}
   */
  look(name, store) {
    const before = this.#looked.get(name);
    if (before?.store !== store) {
      before?.end();
      this.#looked.delete(name);
      if (store && this.isConnected) {
        this.#looked.set(name, { store, end: store.subscribe(() => this.requestUpdate()) });
      }
    }
    return store?.getSnapshot() ?? null;
  }

  /**
   * Tells the page of something, by an event that rises.
   *
   * @protected
   * @param {string} name
   * @param {unknown} [detail]
   */
  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
  }
}
