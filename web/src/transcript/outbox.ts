/** Changes that wait to be sent, kept in the browser: they outlive a lost network, a reload and a closed tab. */
import { keep, kept } from "../kept.js";
import type { Waiting } from "./edits.js";

const PREFIX = "longhand.edits.";

export class Outbox {
  readonly #key: string;
  #release = (): void => {};

  constructor(readonly jobId: string) {
    this.#key = `${PREFIX}${jobId}.${crypto.randomUUID()}`;
    const closed = new Promise<void>((done) => (this.#release = done));
    // held until this is closed, or its tab, so that nobody else takes over what it is sending
    void navigator.locks?.request(this.#key, () => closed);
  }

  /** Leave what waits to whoever opens the transcript next. */
  close(): void {
    this.#release();
  }

  save(waiting: readonly Waiting[]): void {
    keep(this.#key, waiting.length === 0 ? null : JSON.stringify(waiting));
  }

  /** What was left behind for this job. */
  async adopt(): Promise<Waiting[]> {
    const found: Waiting[] = [];
    for (const key of this.#keys()) {
      const take = (lock: unknown): void => {
        if (lock === null) return;
        found.push(...parse(kept(key)));
        keep(key, null);
      };
      // without locks, which plain http has not, a change may be sent twice: it is the same both times
      if (navigator.locks === undefined) take(key);
      else await navigator.locks.request(key, { ifAvailable: true }, take);
    }
    return found;
  }

  #keys(): string[] {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(`${PREFIX}${this.jobId}.`) && key !== this.#key);
    } catch {
      return [];
    }
  }
}

function parse(stored: string | null): Waiting[] {
  try {
    return JSON.parse(stored ?? "[]") as Waiting[];
  } catch {
    return [];
  }
}
