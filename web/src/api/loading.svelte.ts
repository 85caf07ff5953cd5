/** Something that a page shows once it is there: its data, or why there is none yet. */
export class Loading<Data> {
  data = $state.raw<Data | null>(null);
  error = $state.raw<unknown>(null);
  readonly #fetch: () => Promise<Data>;
  #latest = 0;

  constructor(fetch: () => Promise<Data>) {
    this.#fetch = fetch;
    void this.load();
  }

  /** Ask anew; what is shown stays until the answer is there. Of several requests the latest counts. */
  load = async (): Promise<void> => {
    const request = ++this.#latest;
    try {
      const data = await this.#fetch();
      if (request !== this.#latest) return;
      this.data = data;
      this.error = null;
    } catch (error) {
      if (request === this.#latest) this.error = error;
    }
  };
}
