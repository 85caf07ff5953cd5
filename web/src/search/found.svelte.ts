/** What a search has found so far, page by page. */
import { api, unwrap, type components } from "../api/index.svelte.js";

export type Hit = components["schemas"]["HitView"];

/** In the words of the URL. */
export interface Wanted {
  readonly q: string;
  readonly speaker: string;
  readonly from: string;
  readonly to: string;
  readonly collection: string;
  /** `meaning`, or nothing for words. */
  readonly mode: string;
}

export class Found {
  /** Null until the first answer, and while nothing is looked for. */
  hits = $state.raw<readonly Hit[] | null>(null);
  error = $state.raw<unknown>(null);
  busy = $state(false);
  hasMore = $state(false);

  #wanted: Wanted | null = null;
  #cursor: string | null = null;
  #request = 0;

  look(wanted: Wanted): void {
    this.#wanted = wanted;
    this.#cursor = null;
    if (wanted.q !== "") return void this.#load([]);
    this.#request += 1;
    this.hits = null;
    this.error = null;
    this.busy = this.hasMore = false;
  }

  more(): void {
    void this.#load(this.hits ?? []);
  }

  /** Of several requests the latest counts. */
  async #load(known: readonly Hit[]): Promise<void> {
    const request = ++this.#request;
    this.busy = true;
    try {
      const page = await unwrap(api.GET("/v1/search", { params: { query: this.#query() } }));
      if (request !== this.#request) return;
      this.hits = [...known, ...page.data];
      this.#cursor = page.next_cursor;
      this.hasMore = page.next_cursor !== null;
      this.error = null;
    } catch (error) {
      if (request !== this.#request) return;
      this.error = error;
    }
    this.busy = false;
  }

  #query(): { q: string; speaker?: string; from?: string; to?: string; collection?: string; mode?: "meaning"; cursor?: string } {
    const { q = "", ...where } = this.#wanted ?? {};
    const given = Object.entries(where).filter(([, value]) => value !== "");
    return { q, ...Object.fromEntries(given), ...(this.#cursor !== null && { cursor: this.#cursor }) };
  }
}
